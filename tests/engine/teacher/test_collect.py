"""Traces from a teacher that fails one request in five: none lost or doubled, nothing paid twice, the key nowhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from engine.context import Context, StageFailed, StopRequested
from engine.data import locations
from engine.data.rows import DataRow
from engine.data.trace import Trace
from engine.teacher.collect import collect
from engine.teacher.journal import AnswerJournal
from tests.support.fake_teacher import KEY
from tests.support.places import ROOT
from tests.support.stage_context import NoCommands, lines_of, make_context
from tests.support.traced import (
    Teacher,
    context_for,
    failing,
    files_with_key,
    key,
    make_rows,
    profile_for,
    reliable,
    source,
)


def test_a_failing_teacher_answers_every_question_once(
    tmp_path: Path, source: Path, failing: Teacher
) -> None:
    rows = make_rows(300)
    context, told = context_for(tmp_path, failing.url, source, "traces.body=answer")
    traces, report = collect(context, rows)
    assert [(trace.ex_id, trace.answer) for trace in traces] == [(row.ex_id, row.answer) for row in rows]
    assert traces[7].text == "There are 7 and one more, so 7 + 1 = 8.\n\n\\boxed{8}"
    log = failing.log()
    outcomes = Counter(row["outcome"] for row in log)
    assert set(outcomes) == {"answered", "429", "500", "drop", "malformed", "cut"}, (
        "every kind of failure was met"
    )
    assert outcomes["answered"] == 300, "nothing was paid twice"
    assert not any(row["early"] for row in log), "Retry-After was honoured"
    assert 10 <= max(row["most"] for row in log) <= 20, "concurrency was used and never passed"
    assert report["dropped"]["wrong"]["count"] == 0 and report["removed"]["instruction_echo"]["count"] == 300
    assert report["dollars"] > 300 * (100 * 0.55 + 200 * 2.19) / 1e6, "lost requests are counted too"
    last = lines_of(told, "progress")[-1].payload
    assert (last["done"], last["total"], last["eta_seconds"]) == (300, 300, 0.0)
    assert last["tokens"] >= 300 * 300
    again, report = collect(context, rows)
    assert again == traces and report["asked_now"] == 0 and len(failing.log()) == len(log)
    assert files_with_key(tmp_path) == []
    assert KEY not in repr(told) and KEY not in repr(report)


PROGRAM = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from pathlib import Path
from tests.engine.teacher.test_collect import collect, context_for, make_rows
context, _ = context_for(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
traces, report = collect(context, make_rows(int(sys.argv[5])))
print(json.dumps([[trace.ex_id, trace.answer] for trace in traces]))
"""


def start(tmp_path: Path, url: str, source: Path, rows: int) -> subprocess.Popen[str]:
    paths = json.dumps([str(ROOT)])
    command = [sys.executable, "-c", PROGRAM, paths, str(tmp_path), url, str(source), str(rows)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_killed_again_and_again_nothing_is_lost_or_doubled(
    tmp_path: Path, source: Path, failing: Teacher
) -> None:
    count, kills = 200, 2
    profile = profile_for(failing.url, source)
    journal = locations.answers_folder(tmp_path / "home", profile) / "answers.jsonl"
    for kill in range(kills):
        process = start(tmp_path, failing.url, source, count)
        goal, deadline = count * (kill + 1) // (kills + 1), time.monotonic() + 60
        while sum(failing.answered().values()) < goal:
            assert time.monotonic() < deadline and process.poll() is None
            threading.Event().wait(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if kill == 0:
            with journal.open("ab") as file:
                file.write(b'{"ex_id": "train-00399", "sample": 0, "te')  # torn by the kill
    process = start(tmp_path, failing.url, source, count)
    found = json.loads(process.communicate(timeout=60)[0])
    assert found == [[f"train-{number:05d}", str(number + 1)] for number in range(count)]
    kept = Counter(json.loads(line)["ex_id"] for line in journal.open() if '"lost"' not in line)
    assert set(kept.values()) == {1} and len(kept) == count
    assert sum(failing.answered().values()) - count <= kills * 20, "only what was in flight is asked again"
    assert files_with_key(tmp_path) == []


def test_most_of_what_latency_and_concurrency_allow(tmp_path: Path, source: Path) -> None:
    at_best = 150 / 25 * 0.5 - 0.5  # from the first to the last start
    spans = [span_of_requests(tmp_path / str(attempt), source) for attempt in range(3)]
    assert (
        at_best <= min(spans) < at_best / 0.7
    )  # the best of three: the machine may be busy with other things


def span_of_requests(folder: Path, source: Path) -> float:
    """Seconds from the first to the last of 150 requests, 25 at a time, each answered after half a second."""
    folder.mkdir()
    teacher = Teacher(folder / "teacher", latency=0.5, share=0.0, retry_after=0.0)
    try:
        context, _ = context_for(folder, teacher.url, source, "traces.concurrency=25")
        collect(context, make_rows(150))
        times = [row["time"] for row in teacher.log()]
    finally:
        teacher.stop()
    return float(times[-1] - times[0])


class StopAfter(NoCommands):
    """Asks for a stop once the teacher has answered so many questions."""

    def __init__(self, teacher: Teacher, answers: int) -> None:
        self.teacher, self.answers = teacher, answers

    def boundary(self, save: object = None) -> None:
        if len(self.teacher.log()) >= self.answers:
            raise StopRequested


def test_a_stop_keeps_what_was_paid_for(tmp_path: Path, source: Path) -> None:
    teacher = Teacher(tmp_path / "teacher", latency=0.1, share=0.0, retry_after=0.0)
    try:
        context, _ = context_for(tmp_path, teacher.url, source)
        stopping = Context(
            context.folder, context.profile, 0, "traces", None, context.emit, StopAfter(teacher, 50), None
        )
        with pytest.raises(StopRequested):
            collect(stopping, make_rows(200))
        asked = len(teacher.log())
        assert 50 <= asked < 200
        traces, report = collect(context, make_rows(200))
        assert len(traces) == 200 and report["asked_now"] == 200 - asked
        assert set(teacher.answered().values()) == {1}
    finally:
        teacher.stop()


class PausedMidway(NoCommands):
    """Holds the run once the teacher has answered so many questions, until `resume` is set."""

    def __init__(self, teacher: Teacher, answers: int) -> None:
        self.teacher, self.answers = teacher, answers
        self.paused, self.resume = threading.Event(), threading.Event()

    def boundary(self, save: object = None) -> None:
        if len(self.teacher.log()) >= self.answers:
            self.paused.set()
            assert self.resume.wait(60)


def test_a_paused_run_asks_nothing(tmp_path: Path, source: Path) -> None:
    teacher = Teacher(tmp_path / "teacher", latency=0.1, share=0.0, retry_after=0.0)
    try:
        context, _ = context_for(tmp_path, teacher.url, source)
        control = PausedMidway(teacher, 40)
        paused = Context(context.folder, context.profile, 0, "traces", None, context.emit, control, None)
        found: list[Trace] = []
        thread = threading.Thread(target=lambda: found.extend(collect(paused, make_rows(400))[0]))
        thread.start()
        assert control.paused.wait(60)
        deadline, before = time.monotonic() + 60, -1
        while len(teacher.log()) != before:  # what was allowed to start before the pause was seen
            assert time.monotonic() < deadline
            before = len(teacher.log())
            threading.Event().wait(0.6)
        assert 40 <= before < 400
        control.resume.set()
        thread.join()
        assert len(found) == 400 and set(teacher.answered().values()) == {1}
    finally:
        teacher.stop()


def test_the_spending_cap_stops_in_time_and_can_be_raised(
    tmp_path: Path, source: Path, reliable: Teacher
) -> None:
    each = (100 * 1.0 + 200 * 10.0) / 1e6
    prices = ("traces.price_input=1.0", "traces.price_output=10.0", "traces.max_tokens=400")
    context, told = context_for(tmp_path, reliable.url, source, *prices, "traces.spending_cap=0.1")
    with pytest.raises(StageFailed, match=r"spending cap of \$0.10 .* answers are kept"):
        collect(context, make_rows(100))
    paid = sum(reliable.answered().values())
    assert paid * each <= 0.1, "the cap was never passed"
    assert paid >= 0.1 / each - 4, "and nearly used up"
    warning = lines_of(told, "log")[0]
    assert warning.payload["level"] == "warning" and "100 questions to deepseek-reasoner" in warning.message
    context, _ = context_for(tmp_path, reliable.url, source, *prices, "traces.spending_cap=10")
    traces, report = collect(context, make_rows(100))
    assert len(traces) == 100 and report["asked_now"] == 100 - paid
    assert report["dollars"] == pytest.approx(100 * each)


def test_limit_and_samples(tmp_path: Path, source: Path, reliable: Teacher) -> None:
    rows = make_rows(40)
    few, _ = collect(context_for(tmp_path, reliable.url, source, "traces.limit=10")[0], rows)
    assert len(few) == 10 and few != collect(context_for(tmp_path, reliable.url, source)[0], rows)[0][:10]
    assert set(reliable.answered().values()) == {1}, "the ten were not asked again"
    twice, _ = collect(context_for(tmp_path, reliable.url, source, "traces.samples=2")[0], rows)
    assert [(trace.ex_id, trace.sample) for trace in twice] == [
        (row.ex_id, n) for row in rows for n in (0, 1)
    ]


def test_what_the_questions_do_not_follow_from_costs_nothing_again(
    tmp_path: Path, source: Path, reliable: Teacher
) -> None:
    """Limits, splits and few-shot examples choose among the source's rows, whose answers are the same ones."""
    collect(context_for(tmp_path, reliable.url, source)[0], make_rows(20))
    for other in ("data.test_limit=1", "data.train_limit=9", "data.validation_rows=9", "eval.shots=[0, 2]"):
        _, report = collect(context_for(tmp_path, reliable.url, source, other)[0], make_rows(20))
        assert report["asked_now"] == 0, other
    _, report = collect(context_for(tmp_path, reliable.url, source, "traces.temperature=1")[0], make_rows(20))
    assert report["asked_now"] == 20


@pytest.mark.parametrize("choice", ["drop", "keep", "mark"])
def test_wrong_answers_by_setting(tmp_path: Path, source: Path, reliable: Teacher, choice: str) -> None:
    rows = [*make_rows(10), DataRow("odd", "Ann has 50 apples. How many?", "#### 50", "50")]
    context, _ = context_for(tmp_path, reliable.url, source, f"traces.wrong_answers={choice}")
    traces, report = collect(context, rows)
    assert [trace.correct for trace in traces] == [True] * 10 + ([] if choice == "drop" else [False])
    assert report["dropped"]["wrong"]["count"] == (1 if choice == "drop" else 0)
    if choice == "drop":
        assert "gold 50" in report["dropped"]["wrong"]["examples"][0]["text"]


def test_faults_that_no_retry_mends_are_one_line(
    tmp_path: Path, source: Path, reliable: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [
        (
            reliable.url,
            "traces.model=deepseek-reasoner",
            "sk-wrong-key-123456",
            "refused the key in DEEPSEEK_API_KEY",
        ),
        (reliable.url.removesuffix("/v1"), "traces.attempts=8", KEY, "does not know the address or model"),
        (reliable.url, "traces.model=other", KEY, r"answered none of \d+ questions in a row"),
        ("http://127.0.0.1:9/v1", "traces.attempts=1", KEY, r"answered none of \d+ questions in a row"),
        (
            "http://10.0.0.300/v1",
            "traces.attempts=1",
            KEY,
            r"traces\.base_url .*: invalid URL: .*; correct it",
        ),
    ]
    for url, override, secret, words in cases:
        monkeypatch.setenv("DEEPSEEK_API_KEY", secret)
        with pytest.raises(StageFailed, match=words) as caught:
            collect(context_for(tmp_path, url, source, override)[0], make_rows(20))
        assert "\n" not in str(caught.value) and secret not in str(caught.value)
    assert files_with_key(tmp_path) == []


class TakesItsTime(NoCommands):
    """Closes the journal of the run before when this one asks for orders."""

    def __init__(self, journal: AnswerJournal) -> None:
        self.journal, self.asked = journal, 0

    def boundary(self, save: object = None) -> None:
        self.asked += 1
        if self.asked == 1:
            self.journal.__exit__()


def test_a_run_of_another_seed_waits_for_the_answers_and_shares_them(
    tmp_path: Path, source: Path, reliable: Teacher
) -> None:
    context, _ = context_for(tmp_path, reliable.url, source)
    collect(context, make_rows(5))
    journal = AnswerJournal(locations.answers_folder(context.folder.home, context.profile))
    other, told = make_context(tmp_path / "home", context.profile, seed=1, run="other")
    control = TakesItsTime(journal)
    other = Context(other.folder, other.profile, 1, "traces", None, told.append, control, None)
    _, report = collect(other, make_rows(5))
    assert (control.asked, report["asked_now"]) == (1, 0)
    assert "waiting for another run" in lines_of(told, "log")[0].message


def test_two_runs_do_not_ask_the_same(tmp_path: Path) -> None:
    with AnswerJournal(tmp_path), pytest.raises(StageFailed, match="another run is asking"):
        AnswerJournal(tmp_path)
    AnswerJournal(tmp_path).__exit__()
