"""The supervisor over a fake engine, in real processes: states, commands, deaths."""

from __future__ import annotations

from pathlib import Path

from fake_engine import METRIC, expected_values
from supervised import PATIENCE, make_run, records, states, supervise

from store.records import Example, Scalar


def assert_whole(folder, steps: int) -> None:
    """Every step's scalar and example is there once, with the values of an undisturbed run."""
    rows = records(folder)
    scalars = [(r.step, int(r.value)) for r in rows if isinstance(r, Scalar) and r.metric == METRIC]
    assert scalars == list(enumerate(expected_values(steps)))
    assert [r.step for r in rows if isinstance(r, Example)] == list(range(steps))


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    assert supervise(folder).wait(PATIENCE) == 0
    assert states(folder) == ["queued", "running", "done"]
    assert_whole(folder, 60)
