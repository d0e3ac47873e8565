"""The stage `pretrain`: what it trains on, and that a stopped one goes on to the same losses and weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engine.context import Control, StopRequested
from engine.data.tiny_model import make_tokenizer
from engine.stages import pretrain
from engine.stages.pretrain import mixed_batch
from engine.training import arm_training as training
from profiles.load import load
from profiles.schema import Profile
from profiles.training import Pretrain
from store.records import Record, Scalar
from tests.support.stage_context import NoCommands, lines_of, make_context

SETTINGS = (
    "pretrain.steps=5",
    "pretrain.worked_steps=3",
    "pretrain.batch_size=8",
    "pretrain.checkpoint_every=0",
    "pretrain.checkpoint_minutes=0",
    "pretrain.width=64",
    "pretrain.heads=2",
)


@dataclass
class StopsBefore(NoCommands):
    """A control that stops the stage at the boundary before its step `step`, counted from 0."""

    step: int

    def boundary(self, save: Callable[[], None] | None = None) -> None:
        self.step -= 1
        if self.step < 0:
            assert save is not None
            save()
            raise StopRequested


def run(home: Path, profile: Profile, control: Control | None = None) -> list[Record]:
    context, told = make_context(home, profile, seed=4)
    arm = profile.arm("base")
    pretrain.run(replace(context, stage="pretrain", arm=arm, control=control or NoCommands()))
    return told


def losses(told: list[Record]) -> list[tuple[int, float]]:
    return [
        (row.step, row.value) for row in told if isinstance(row, Scalar) and row.metric == "base/train/loss"
    ]


def test_a_stopped_pretraining_goes_on_to_the_same_losses_and_weights(tmp_path: Path) -> None:
    profile = load("demo", SETTINGS)
    whole = losses(run(tmp_path / "whole", profile))
    assert [step for step, _ in whole] == [1, 2, 3, 4, 5]
    with pytest.raises(StopRequested):
        run(tmp_path / "parts", profile, StopsBefore(2))
    assert losses(run(tmp_path / "parts", profile)) == whole[2:]
    weights = [
        (tmp_path / name / "runs/run/checkpoints/base/step_000005/model.safetensors").read_bytes()
        for name in ("whole", "parts")
    ]
    assert weights[0] == weights[1]


def test_progress_tells_the_time_left_at_the_pace_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = count(0.0, 7.0)  # a step takes 7 s; what the clock on the wall says is not asked
    clock = SimpleNamespace(monotonic=lambda: next(moments), perf_counter=time.perf_counter)
    monkeypatch.setattr(training, "time", clock)
    told = lines_of(run(tmp_path, load("demo", SETTINGS)), "progress")
    assert [event.payload.get("eta_seconds") for event in told] == [None, 21.0, 14.0, 7.0, 0.0]


def test_later_batches_guess_at_most_kinds_and_every_sequence_ends() -> None:
    tokenizer = make_tokenizer(1024)
    shape = Pretrain(batch_size=400, worked_steps=10, worked_kinds=2, worked_fraction=0.3)
    first, later = (mixed_batch(tokenizer, shape, 0, step) for step in (9, 10))
    assert share_worked(tokenizer, first) == 1.0
    assert abs(share_worked(tokenizer, later) - (2 / 18 + 16 / 18 * 0.3)) < 0.08
    assert all(sequence.finished for sequence in first + later)
    assert {int(sequence.token_ids[-1]) for sequence in first + later} == {tokenizer.eos_token_id}
    again = mixed_batch(tokenizer, shape, 0, 10)
    assert all(np.array_equal(one.token_ids, two.token_ids) for one, two in zip(later, again, strict=True))


def share_worked(tokenizer, batch) -> float:  # type: ignore[no-untyped-def]
    texts = [tokenizer.decode(sequence.token_ids[sequence.prompt_length :]) for sequence in batch]
    assert all(text.startswith(" ") and "####" in text for text in texts)
    return sum("=" in text for text in texts) / len(texts)
