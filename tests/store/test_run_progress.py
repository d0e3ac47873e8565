"""The fold of a run's progress: times by hand, any events, and equality with what the store selects by SQL."""

from __future__ import annotations

import random
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathrl_tui.commands.feed import Feed
from mathrl_tui.commands.quick_status import quick_status
from mathrl_tui.core.logs import event_row
from mathrl_tui.core.run import RunModel
from store.events import (
    DETAILS as CLASSES,
)
from store.events import (
    Details,
    Part,
    PhaseChange,
    ProcessChange,
    ProgressReport,
    StageChange,
    StateChange,
    details_of,
)
from store.query import Store
from store.records import Event, Record, RunRow
from store.run_config import RunConfig
from store.run_progress import RunProgress, StepProgress, Steps, after, folded, settled
from tests.support.fuzzing import NESTED, fuzz
from tests.support.journaled import RUN, journaled

PLAN = [("data", ""), ("sft", "sft"), ("eval", "")]
CONFIG = {
    "name": "demo",
    "profile": {"name": "demo"},
    "seed": 0,
    "plan": [{"stage": stage, "arm": arm} for stage, arm in PLAN],
}


def stage(status: str, ts: float, name: str = "sft", arm: str = "sft") -> Event:
    return StageChange(status).event("", name, arm, ts=ts)


def progress(done: int, ts: float) -> Event:
    return ProgressReport(done, 20, "steps").event("", "sft", "sft", done, ts)


def statuses(steps: Steps) -> list[str]:
    return [step.status for step in steps]


def test_a_step_has_its_pace_its_time_left_and_its_seconds() -> None:
    seen = folded([stage("started", 10.0), progress(4, 12.0), progress(9, 22.0)], RunProgress.of_plan(PLAN))
    now = seen.current
    assert now is not None and (now.label, now.fraction) == ("sft", 0.45)
    assert now.remaining(22.0) == pytest.approx(22.0)  # 5 steps took 10 s, 11 are left
    assert now.remaining(32.0) == pytest.approx(12.0)
    assert now.remaining(5.0) == pytest.approx(22.0)  # the clock was set back
    assert statuses(settled(seen.steps, "interrupted")) == ["pending", "interrupted", "pending"]
    assert statuses(settled(seen.steps, "paused")) == ["pending", "paused", "pending"]
    assert settled(seen.steps, "running", 40.0) == seen.steps
    assert settled(seen.steps, "interrupted", 40.0)[1].seconds(99.0) == 30.0
    assert settled(seen.steps, "paused", 40.0)[1].seconds(99.0) == 89.0
    seen = after(seen, stage("finished", 30.0))
    assert seen.steps[1].seconds(99.0) == 20.0
    assert seen.steps[1].remaining(30.0) is None
    assert seen.fraction == pytest.approx(1 / 3)
    seen = after(seen, stage("started", 31.0, "grpo", "grpo"))
    assert [step.label for step in seen.steps] == ["data", "sft", "eval", "grpo"]
    assert seen.at == ("grpo", "grpo")


def test_the_pace_starts_again_when_the_clock_is_set_back() -> None:
    reports = [progress(4, 5002.0), progress(9, 5012.0), progress(10, 1414.0), progress(12, 1418.0)]
    seen = folded([stage("started", 5000.0), *reports])
    assert seen.steps[0].remaining(1418.0) == pytest.approx(16.0)  # 2 steps took 4 s, 8 are left


def test_the_last_failed_step_gives_the_failure_until_it_succeeds() -> None:
    failed = StageChange("incomplete").event("1 of 2 tasks failed", "eval", ts=2.0)
    seen = folded([stage("finished", 1.0), failed], RunProgress.of_plan(PLAN))
    assert seen.failure == "eval: 1 of 2 tasks failed"
    assert folded([stage("finished", 3.0, "eval", "")], seen).failure == ""


PLACES = st.sampled_from([*PLAN, ("grpo", "grpo"), ("", "")])
COUNTS = st.integers(0, 30)
DETAILS: st.SearchStrategy[Details] = st.one_of(
    st.builds(
        StateChange,
        st.sampled_from(["queued", "running", "paused", "stopping", "failed", "done", "interrupted"]),
        st.sampled_from(["", "why"]),
    ),
    st.builds(
        StageChange,
        st.sampled_from(["started", "started", "finished", "skipped", "failed", "incomplete", "stopped"]),
    ),
    st.builds(
        ProgressReport,
        COUNTS,
        COUNTS,
        st.sampled_from(["steps", "suite tasks"]),
        st.none() | st.floats(0, 1e6),
        st.none() | st.builds(Part, st.just("mmlu"), st.just("sft"), COUNTS, COUNTS),
    ),
    st.builds(
        ProcessChange,
        st.sampled_from(["trainer", "worker"]),
        st.integers(-1, 2**70),
        st.booleans(),
        st.sampled_from(["", "killed by signal 9"]),
    ),
    st.builds(PhaseChange, st.just("loading"), st.just("model")),
)
EVENTS = st.builds(
    lambda details, place, ts: details.event("", *place, ts=ts),
    DETAILS,
    PLACES,
    st.integers(0, 90).map(float),
)


def of_status(step: StepProgress) -> tuple[object, ...]:
    """What a status shows of a step: its pace needs every report, and its message every phase."""
    return step.name, step.status, step.report, step.started, step.ended


@fuzz(25)
@given(st.lists(EVENTS, max_size=30), st.integers(0, 30))
def test_sql_follow_console_and_folder_see_the_progress_of_the_fold(
    events: list[Event], ingested: int
) -> None:
    # The console skips an event that it already has, so no two are equal here.
    events = [replace(event, message=f"event {number}") for number, event in enumerate(events)]
    row = RunRow("demo", "demo", 0, CONFIG, 1.0)
    whole = folded(events, RunProgress.of_plan(PLAN))
    with tempfile.TemporaryDirectory() as path:
        home = Path(path)
        store = Store(home)
        journaled(home, [row, *events[:ingested]])
        store.ingest()
        if rest := events[ingested:]:
            journaled(home, list(rest))
        (summary,), status, seen = store.runs(), store.status(RUN), quick_status(home, RUN)
        store.ingest()
        assert store.status(RUN) == status
        assert store.runs() == [summary]
        shown = store.newest_events(RUN, (("state", "stage", "process"), None), (("progress",), 500))
    assert seen is not None and replace(seen.status, processes=[]) == replace(status, processes=[])
    is_over = whole.state not in ("", "queued", "running", "paused", "stopping")
    assert summary.state == status.state == (whole.state if is_over else "interrupted")
    assert not is_over or status.reason == whole.reason
    assert [one.role for one in status.processes] == [one.role for one in whole.processes]
    step = whole.current
    assert (status.stage, status.arm) == (step.name if step else ("", ""))
    assert status.step == (step.report.done if step and step.report else None)
    planned = [one for one in whole.steps if one.name in PLAN or one.status != "pending"]
    found = ["interrupted" if one.status == "started" else one.status for one in planned]
    assert [one.status for one in status.stages] == [one.status for one in summary.stages] == found
    sql = folded(shown, RunProgress.of_plan(PLAN))
    # A phase alone adds a step that the selection without phases does not have.
    assert [*map(of_status, sql.steps)] == [of_status(one) for one in whole.steps if sql.step(one.name)]
    feed = Feed(RUN, progress_lines=False)
    feed.take(events)
    assert (feed.state, feed.reason) == (whole.state, whole.reason)
    model = RunModel(RUN, RunConfig.of(CONFIG))
    model.apply(events)
    shot = model.snapshot(alive=True)
    assert (shot.state, shot.reason) == (whole.state or "queued", whole.reason)
    assert shot.board == settled(whole.steps, shot.state, whole.ended or whole.last)
    assert shot.processes == whole.processes


FIELDS = sorted({each.name for cls in CLASSES.values() for each in fields(cls)})
DAMAGED = st.one_of(
    NESTED,
    st.dictionaries(
        st.sampled_from(FIELDS),
        NESTED,
    ),
)
KINDS = st.sampled_from([*CLASSES, "of a later version"])


@fuzz(150)
@given(st.lists(st.tuples(KINDS, PLACES, DAMAGED), max_size=6))
def test_damaged_details_raise_nowhere(events: list[tuple[str, tuple[str, str], object]]) -> None:
    records: list[Record] = [
        Event(kind, "", *place, payload=payload, ts=1.0)  # type: ignore[arg-type]
        for kind, place, payload in events
    ]
    feed = Feed(RUN, progress_lines=True)
    feed.take(records)
    feed.status()
    model = RunModel(RUN, RunConfig.of(CONFIG))
    model.apply(records)
    list(map(event_row, model.snapshot(alive=True).log))


def test_events_are_folded_whatever_their_order() -> None:
    """A journal that was put together again may hold them in any order: the fold has an answer for each."""
    events = [
        stage("started", 1.0),
        progress(3, 2.0),
        stage("finished", 3.0),
        StateChange("done", "").event(ts=4.0),
    ]
    draw = random.Random(0)
    for _ in range(24):
        draw.shuffle(events)
        seen = folded(events, RunProgress.of_plan(PLAN))
        assert seen.state == "done" and seen.steps[1].done == 3
        assert details_of(events[0]).event().kind == events[0].kind
