"""The stage grpo reports a policy that had nothing to learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.protocol.messages import Completion, WorkerResult
from engine.stages.grpo import NOTHING_TO_LEARN
from store.records import Event
from tests.support.stages_alone import HandWorker, prepared, train

SETTINGS = (
    "sft.steps=1",
    "sft.validate_every=0",
    "grpo.steps=2",
    "grpo.validate_every=0",
    "grpo.checkpoint_every=0",
)


class NeverRight(HandWorker):
    """A worker whose completions are all wrong."""

    def poll(self, timeout: float) -> list[WorkerResult]:
        return [
            replace(result, outcome="wrong") if isinstance(result, Completion) else result
            for result in super().poll(timeout)
        ]


@pytest.mark.parametrize(("worker", "count"), [(NeverRight, 1), (HandWorker, 0)])
def test_a_policy_that_never_moved_warns_once(tmp_path: Path, worker: type[HandWorker], count: int) -> None:
    context, told = prepared(tmp_path, *SETTINGS)
    train(context, "sft", HandWorker())
    train(context, "sft+grpo", worker())
    warned = [row.message for row in told if isinstance(row, Event) and row.kind == "log"]
    assert warned.count(NOTHING_TO_LEARN.format(steps=2)) == count
