"""What a kill would cost: times by hand, and checkpoints that a clock asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.ipc.step_control import StepControl
from store.at_risk import RiskState, cost, marked
from store.records import Event, Record, Scalar
from tests.support.stage_context import lines_of
from tests.support.stages_alone import HandWorker, prepared, train


def event(kind: str, ts: float, stage: str = "sft", step: int = -1, **payload: object) -> Event:
    return Event(kind, "", stage, stage, step, payload, ts)


def state(word: str, ts: float) -> Event:
    return event("state", ts, "", state=word, reason="")


def begun() -> list[Record]:
    """Queued at 1000, at work on `sft` from 1030."""
    return [state("queued", 1000.0), state("running", 1001.0), event("stage", 1030.0, status="started")]


def saved(ts: float, step: int) -> Event:
    """A checkpoint that took 15 s to write, of an arm that took 40 s to its first step."""
    return event("checkpoint", ts, step=step, path="p", seconds=15.0, start_seconds=40.0)


def test_before_the_first_checkpoint_all_of_the_stage_is_at_risk() -> None:
    found = cost(marked(begun()), 1330.0)
    assert found is not None
    assert (found.redo, found.restart, found.step) == (300.0, 30.0, -1)
    assert found.words == "a kill now would cost 6 min: 5 min of sft, 30 s to start again"


def test_a_checkpoint_counts_from_its_copy_not_from_its_name() -> None:
    found = cost(marked([*begun(), saved(1615.0, 50)]), 1720.0)
    assert found is not None
    assert (found.redo, found.restart, found.step) == (120.0, 70.0, 50)
    assert found.words == (
        "a kill now would cost 3 min: 2 min of sft since the checkpoint of step 50, 70 s to start again"
    )
    assert found.as_json() == {
        "seconds": 190.0,
        "redo_seconds": 120.0,
        "restart_seconds": 70.0,
        "stage": "sft",
        "step": 50,
    }


def test_a_pause_is_no_work() -> None:
    paused = marked([*begun(), saved(1615.0, 50), state("paused", 1660.0)])
    assert cost(paused, 9000.0) == cost(paused, 1660.0)
    on = cost(marked([state("running", 9000.0)], paused), 9010.0)
    assert on is not None and on.redo == 70.0


def test_a_restarted_trainer_counts_from_its_own_start() -> None:
    records = [*begun(), saved(1615.0, 50), event("stage", 2000.0, status="started")]
    found = cost(marked(records), 2010.0)
    assert found is not None and (found.redo, found.restart, found.step) == (10.0, 30.0, -1)


def test_an_evaluation_repeats_what_came_after_its_last_task() -> None:
    records = [
        *begun(),
        event("stage", 1500.0, status="finished"),
        event("stage", 1500.0, "eval", status="started"),
    ]
    found = cost(marked([*records, Scalar("sft/eval/gsm8k", 50, 0.5, 1800.0)]), 1860.0)
    assert found is not None and (found.redo, found.stage) == (60.0, "eval")


@pytest.mark.parametrize("word", ["interrupted", "done", "failed"])
def test_a_run_that_is_not_live_has_nothing_at_risk(word: str) -> None:
    assert cost(marked([*begun(), state(word, 1400.0)]), 1500.0) is None
    assert cost(RiskState(), 1500.0) is None


def checkpoints(told: list[Record]) -> list[int]:
    return [each.step for each in lines_of(told, "checkpoint")]


def test_a_checkpoint_is_written_when_the_clock_asks_for_it_and_changes_no_result(tmp_path: Path) -> None:
    settings = ("sft.steps=6", "sft.checkpoint_every=4", "sft.validate_every=1", "sft.keep_checkpoints=9")
    runs = []
    for minutes in (0, 1e-9):
        context, told = prepared(tmp_path / str(minutes), *settings, f"sft.checkpoint_minutes={minutes}")
        train(context, "sft", HandWorker(), StepControl(lambda notice: None, lambda: None))
        runs.append((context, told))
    (plain, expected), (clocked, told) = runs
    assert (checkpoints(expected), checkpoints(told)) == ([4, 6], [1, 2, 3, 4, 5, 6])
    values = [
        [(r.metric, r.step, r.value) for r in each if isinstance(r, Scalar)] for each in (expected, told)
    ]
    steady = [
        [row for row in rows if "/time/" not in row[0] and "per_second" not in row[0]] for rows in values
    ]
    assert sorted(steady[0]) == sorted(steady[1])
    best = [c.folder.checkpoints("sft").joinpath("best").readlink() for c in (plain, clocked)]
    assert best[0] == best[1]
    path = Path(lines_of(told, "checkpoint")[0].payload["path"])
    assert not path.is_absolute() and (clocked.folder.home / path).is_dir()
