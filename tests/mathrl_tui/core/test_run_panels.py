"""What stands next to the charts: GPUs, waiting, the end of the run, last events."""

from __future__ import annotations

import numpy as np
import pytest

from mathrl_tui.core import machine_strip, run_end
from mathrl_tui.core.curve import Curve
from mathrl_tui.core.run import RunModel, RunSnapshot, Value
from store.records import Event, Scalar
from store.run_config import RunConfig
from tests.support.fabricated import config


def _plain(rows: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(words for words, _ in row) for row in rows]


def _latest(**values: float) -> dict[str, Value]:
    return {name.replace("__", "/"): Value(1, value, 1.0) for name, value in values.items()}


def test_a_gpu_has_its_values_with_units_and_its_history() -> None:
    latest = _latest(
        gpu__0__utilisation=87.0, gpu__0__memory_gib=41.5, gpu__0__power_w=512.4, gpu__0__temperature_c=61.0
    )
    assert machine_strip.gpu_metrics(latest) == ["gpu/0/utilisation"]
    history = Curve.of([0, 10], [100.0, 100.0], [0, 10])
    values, line = _plain(machine_strip.gpu_rows(latest, {"gpu/0/utilisation": history}, 36))
    assert values.split() == ["0", "87", "%", "41.5", "GiB", "512", "W", "61", "°C"]
    assert line.strip() == "⣿" * 31 and len(values) <= 36
    assert len(machine_strip.gpu_rows(latest, {}, 36)) == 1
    assert machine_strip.gpu_rows({}, {}, 36) == []


def test_a_history_is_as_high_as_its_values() -> None:
    steps = np.arange(40.0)
    falling = Curve.of(steps, np.where(steps < 20, 100.0, 0.0), steps)
    drawn = machine_strip.sparkline(falling, 20, 100.0)
    assert drawn[:9] == "⣿" * 9 and set(drawn[11:]) == {"⣀"}


def _run(done: int = 10) -> RunSnapshot:
    """Return a run whose arm grpo does a step in 8 s, 2 s of which the trainer computes."""
    model = RunModel("run", RunConfig.of(config("run", 0.0)))

    def event(
        kind: str, ts: float, message: str = "", stage: str = "", arm: str = "", **payload: object
    ) -> Event:
        return Event(kind, message, stage, arm, -1, dict(payload), ts)

    model.apply([event("state", 1.0, state="running", reason="")])
    for stage, arm in (("data", ""), ("pretrain", "base"), ("sft", "sft")):
        model.apply([event("stage", 2.0, "", stage, arm, status="started")])
        model.apply([event("stage", 3.0, "", stage, arm, status="finished")])
    model.apply([event("stage", 10.0, "", "grpo", "grpo", status="started")])
    for step in range(done):
        values = (("train/tokens", 1000.0), ("train/tokens_per_second", 500.0), ("worker/idle_seconds", 1.0))
        model.apply([Scalar(f"grpo/{name}", step, value, 10.0 + 8 * step) for name, value in values])
        report = event("progress", 10.0 + 8 * step, "", "grpo", "grpo", done=step, total=20, unit="steps")
        model.apply([report])
    model.apply([event("log", 90.0, "one row was too long", "grpo", level="warning")])
    return model.snapshot(alive=True)


def test_trainer_and_worker_wait_for_the_rest_of_a_step() -> None:
    (row,) = _plain(machine_strip.waiting_rows(_run(), 60))
    assert row == " idle: trainer 75 %, worker 12 % of a step of 8 s"
    (short,) = _plain(machine_strip.waiting_rows(_run(), 36))
    assert short == " idle: trainer 75 %, worker 12 %"
    assert machine_strip.waiting_rows(_run(done=1), 60) == []


@pytest.mark.parametrize("width", [36, 60])
def test_the_runs_end_is_a_bound_while_stages_wait(width: int) -> None:
    # Step 9 of 20 at 82 s, 8 s a step: 88 s are left at 82 s, 80 s at 90 s.
    (row,) = _plain(run_end.end_row(_run(), width, 90.0))
    assert row == " run 1:30, left > 1:20, then eval"


def test_last_events_are_newest_first() -> None:
    rows = _plain(run_end.event_rows(_run(), 40, 3))
    assert rows[0].endswith(" one row was too long") and len(rows) <= 3
    assert run_end.event_rows(_run(), 40, 0) == []
