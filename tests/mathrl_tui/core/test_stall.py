"""When a run's silence is an alarm: times by hand against what the run itself has shown."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import pytest

from mathrl_tui.core import alarms
from mathrl_tui.core import stall as silence
from mathrl_tui.core.stall import Pulse
from store.records import Event, Example, Record, Scalar


def _event(kind: str, ts: float, **payload: object) -> Event:
    return Event(kind, "", "sft", "sft", payload=payload, ts=ts)


def _steps(first: float, every: float, count: int, unit: str = "steps") -> list[Record]:
    """The stage starts at 1000; `count` steps, the first at `first`."""
    told = [_event("progress", first + every * n, done=n + 1, total=99, unit=unit) for n in range(count)]
    return [_event("stage", 1000.0, status="started"), *told]


def _pulse(records: Iterable[Record]) -> Pulse:
    return reduce(silence.after, records, Pulse())


@pytest.mark.parametrize(
    ("every", "patience"),
    [
        (7.0, 600.0),  # five steps of 7 s are 35 s: a checkpoint may take longer
        (300.0, 1500.0),  # five steps of five minutes
    ],
)
def test_patience_is_five_usual_steps_and_ten_minutes_at_least(every: float, patience: float) -> None:
    pulse = _pulse(_steps(1100.0, every, 5))
    last = 1100.0 + 4 * every
    assert (pulse.heard, pulse.usual, pulse.patience) == (last, every, patience)
    assert pulse.words(last + patience - 1) == ""
    assert pulse.words(last + patience).startswith("sft silent for ")


def test_the_words_name_stage_silence_and_what_is_usual() -> None:
    pulse = _pulse(_steps(1100.0, 7.0, 5))
    (alarm,) = alarms.silent("running", pulse, 1128.0 + 1510.0)
    assert alarm.words == "sft silent for 25:10, usually 0:07"
    (later,) = alarms.silent("running", pulse, 1128.0 + 1511.0)
    assert later.words != alarm.words and later.topic == alarm.topic
    shown = "".join(words for words, _ in alarms.row([alarm], live=True))
    assert shown == " ✗ sft silent for 25:10, usually 0:07; K kills, R resumes; 6 shows the log"


@pytest.mark.parametrize("state", ["queued", "paused", "stopping", "interrupted", "failed", "done"])
def test_only_a_run_that_should_be_at_work_is_suspected(state: str) -> None:
    assert alarms.silent(state, _pulse(_steps(1100.0, 7.0, 5)), 1e9) == []


@pytest.mark.parametrize(
    "sign",
    [
        Scalar("sft/train/loss", 6, 0.5, 1700.0),
        Example("sft", 6, "t", "e", 0, True, 1.0, "correct", "", "", 1, ts=1700.0),
        _event("log", 1700.0, process="worker", level="info"),
        _event("checkpoint", 1700.0, path="p"),
        _event("progress", 1700.0, done=6, unit="steps"),
    ],
)
def test_what_the_stage_shows_breaks_the_silence(sign: Record) -> None:
    assert _pulse([*_steps(1100.0, 7.0, 5), sign]).heard == 1700.0


@pytest.mark.parametrize(
    "noise",
    [
        Scalar("gpu/0/utilisation", 700, 100.0, 1700.0),
        Scalar("gpu/1/memory_gib", 700, 60.0, 1700.0),
        _event("log", 1700.0, process="supervisor", level="info"),
        _event("command", 1700.0, command="checkpoint", origin="console"),
        _event("progress", 1700.0, done=5, unit="steps"),  # told again while it waits for an answer
    ],
)
def test_what_only_says_that_somebody_lives_does_not(noise: Record) -> None:
    assert _pulse([*_steps(1100.0, 7.0, 5), noise]).heard == 1128.0


@pytest.mark.parametrize(
    "start",
    [
        _event("phase", 1700.0, phase="compiling"),
        _event("state", 1700.0, state="running"),  # after a pause
        _event("process", 1700.0, role="worker", alive=True),
    ],
)
def test_what_starts_has_half_an_hour_and_leaves_no_trace_in_what_is_usual(start: Event) -> None:
    pulse = _pulse([*_steps(1100.0, 7.0, 5), start])
    assert (pulse.heard, pulse.patience) == (1700.0, 1800.0)
    assert pulse.words(3500.0) == "sft silent for 30:00 while it starts, usually 0:07"
    goes_on = silence.after(pulse, _event("progress", 2000.0, done=6, unit="steps"))
    assert (goes_on.usual, goes_on.patience) == (7.0, 600.0)


def test_a_stage_that_has_shown_too_little_has_half_an_hour_too() -> None:
    begun = _pulse(_steps(0.0, 0.0, 0))
    assert begun.words(2799.0) == "" and begun.words(2800.0) == "sft silent for 30:00 while it starts"
    assert _pulse(_steps(1100.0, 7.0, 3)).patience == 1800.0  # two steps between three moments
    assert _pulse(_steps(1100.0, 7.0, 4)).patience == 600.0


def test_a_pause_that_the_stage_came_back_from_is_allowed_twice() -> None:
    validating = [*_steps(1100.0, 7.0, 5), _event("progress", 1128.0 + 800, done=6, unit="steps")]
    assert _pulse(validating).patience == 1600.0 and _pulse(validating).usual == 7.0


def _documents(ts: float, task: str, done: int, before: int = 0) -> Event:
    part = {"name": task, "arm": "sft", "done": done, "total": 100}
    return _event("progress", ts, done=before, total=8, unit="suite tasks", part=part)


def test_a_suite_task_that_moves_is_not_silent_and_one_that_stops_is_suspected_as_any_stage() -> None:
    moving = [_documents(1200.0 + n, "mmlu", n) for n in range(50)]
    pulse = _pulse([*_steps(1100.0, 1.0, 50, "completions"), *moving])
    assert (pulse.heard, pulse.usual, pulse.patience) == (1249.0, 1.0, 600.0)
    told_again = silence.after(pulse, _documents(1700.0, "mmlu", 49))
    assert told_again.heard == 1249.0


def test_the_next_suite_task_may_fetch_its_rows_for_half_an_hour() -> None:
    moving = [_documents(1200.0 + n, "mmlu", 100 * n // 9) for n in range(10)]  # to its last document
    pulse = _pulse([*moving, _documents(1215.0, "arc", 0, before=1)])
    assert (pulse.heard, pulse.patience) == (1215.0, 1800.0)
    assert pulse.words(3015.0) == "sft silent for 30:00 while it starts, usually 0:01"
    assert silence.after(pulse, _documents(1230.0, "arc", 3, before=1)).patience == 600.0


def test_the_next_stage_has_its_own_measure() -> None:
    following = Event("stage", "", "grpo", "grpo", payload={"status": "started"}, ts=1200.0)
    assert _pulse([*_steps(1100.0, 7.0, 5), following]) == Pulse("grpo", heard=1200.0)


def test_a_clock_that_was_set_back_hides_no_silence() -> None:
    back = [_event("progress", 7000.0 + 7.0 * n, done=10 + n, total=99, unit="steps") for n in range(5)]
    pulse = _pulse([*_steps(10_600.0, 7.0, 5), *back])
    assert (pulse.heard, pulse.usual, pulse.patience) == (7028.0, 7.0, 600.0)
    assert pulse.words(7628.0) == "sft silent for 10:00, usually 0:07"
    twice = _pulse([*_steps(1100.0, 7.0, 5), *_steps(1100.0, 7.0, 5)[3:]])  # told again, not set back
    assert (twice.heard, twice.gaps) == (1128.0, (7.0,) * 4)


def test_nothing_is_said_of_a_run_of_which_nothing_was_heard() -> None:
    assert Pulse().words(1e9) == ""
