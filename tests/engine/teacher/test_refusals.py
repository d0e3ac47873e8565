"""Questions that a teacher refuses, for now or for good, and answers that come as reasoning."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.context import StageFailed
from engine.data import locations
from engine.data.rows import DataRow
from engine.teacher.collect import collect
from engine.teacher.journal import AnswerJournal
from tests.support.stage_context import lines_of
from tests.support.traced import Teacher, context_for, failing, key, make_rows, reliable, source


def test_a_refused_question_is_reported_and_the_others_go_on(
    tmp_path: Path, source: Path, reliable: Teacher
) -> None:
    rows = make_rows(150)
    rows[5] = DataRow("bad", "forbidden: how many?", "#### 1", "1")
    traces, report = collect(context_for(tmp_path, reliable.url, source)[0], rows)
    assert len(traces) == 149
    assert report["dropped"]["unanswered"] == {"count": 1, "examples": [{"ex_id": "bad", "text": ""}]}


def ids_of(report: dict[str, Any]) -> list[str]:
    return [question["ex_id"] for question in report["given_up"]]


def test_ten_questions_with_one_refusal_finish_and_it_is_never_asked_again(
    tmp_path: Path, source: Path, reliable: Teacher
) -> None:
    rows = make_rows(9)
    for number, word in enumerate(("forbidden", "filtered", "silent")):
        asked = [*rows, DataRow(f"odd-{number}", f"{word}: how many, {number}?", "#### 1", "1")]
        for attempt in range(2):
            context, told = context_for(tmp_path, reliable.url, source)
            traces, report = collect(context, asked)
            assert len(traces) == 9 and ids_of(report) == [f"odd-{number}"]
            assert report["given_up"][0]["refused"] is True
            assert f"odd-{number} (" in report["summary"]
            (warning,) = [line for line in lines_of(told, "log") if line.payload["level"] == "warning"]
            assert "1 of 10 questions" in warning.message and f"odd-{number} (" in warning.message
            assert report["asked_now"] == 0 or attempt == 0
    asked_of = Counter(row["question"].split(":")[0] for row in reliable.log())
    assert (asked_of["forbidden"], asked_of["filtered"], asked_of["silent"]) == (1, 1, 3)


def test_more_refusals_than_allowed_fail_by_name_until_the_bar_is_set_lower(
    tmp_path: Path, source: Path, reliable: Teacher
) -> None:
    rows = [
        *make_rows(8),
        *(DataRow(f"bad-{n}", f"forbidden: how many, {n}?", "#### 1", "1") for n in range(2)),
    ]
    for _ in range(2):
        with pytest.raises(
            StageFailed, match=r"2 of 10 .* 2 of them refused: bad-0 .*, bad-1 .*allows 1: raise it"
        ):
            collect(context_for(tmp_path, reliable.url, source)[0], rows)
    traces, report = collect(context_for(tmp_path, reliable.url, source, "traces.max_failed=0.2")[0], rows)
    assert (len(traces), ids_of(report), report["asked_now"]) == (8, ["bad-0", "bad-1"], 0)
    assert len(reliable.log()) == 10, "each was asked once"


def test_what_failed_for_a_while_is_asked_again(tmp_path: Path, source: Path, reliable: Teacher) -> None:
    rows = [
        *make_rows(8),
        *(DataRow(f"busy-{n}", f"later: how many, {n}?", "#### 1", str(n + 1)) for n in range(2)),
    ]
    once = context_for(tmp_path, reliable.url, source, "traces.attempts=1")[0]
    with pytest.raises(
        StageFailed, match=r"2 of 10 .* 0 of them refused.* run again to ask the others, or raise"
    ):
        collect(once, rows)
    traces, report = collect(context_for(tmp_path, reliable.url, source, "traces.attempts=1")[0], rows)
    assert (len(traces), report["given_up"], report["asked_now"]) == (10, [], 2)


def test_a_teacher_that_refuses_everything_has_refused_nothing(
    tmp_path: Path, source: Path, reliable: Teacher
) -> None:
    """Such as an account that is blocked: questions stay open until some question is answered."""
    rows = [DataRow(f"bad-{n}", f"forbidden: how many, {n}?", "#### 1", "1") for n in range(3)]
    with pytest.raises(StageFailed, match="none of 3 questions got an answer: bad-0"):
        collect(context_for(tmp_path, reliable.url, source)[0], rows)
    with pytest.raises(StageFailed, match="none of 3 questions"):
        collect(context_for(tmp_path, reliable.url, source)[0], rows)
    assert len(reliable.log()) == 6, "asked again"


def test_reasoning_becomes_the_trace_wherever_the_teacher_puts_it(
    tmp_path: Path, source: Path, reliable: Teacher
) -> None:
    words = ("boxonly", "thinks", "renamed", "plainly")
    rows = [DataRow(word, f"{word}: one more than 52?", "#### 53", "53") for word in words]
    traces, report = collect(context_for(tmp_path, reliable.url, source)[0], rows)
    reasoned = "52 and one is 53.\n\n\\boxed{53}"
    said = "There are 52 and one more, so 52 + 1 = 53.\n\n\\boxed{53}"
    assert [trace.text for trace in traces] == [reasoned, reasoned, reasoned, said]
    assert report["without_reasoning"]["count"] == 1
    assert report["without_reasoning"]["examples"][0]["ex_id"] == "plainly"
    assert "1 came without reasoning and are the answer's text" in report["summary"]
    for body, first in (("answer", "\\boxed{53}"), ("both", reasoned)):
        context = context_for(tmp_path, reliable.url, source, f"traces.body={body}")[0]
        traces, report = collect(context, rows)
        assert (traces[0].text, traces[3].text, report["asked_now"]) == (first, said, 0)


def test_answers_that_an_older_version_paid_for_are_used(
    tmp_path: Path, source: Path, reliable: Teacher
) -> None:
    """Its journal has the reasoning; a line without any falls back to the answer."""
    context, _ = context_for(tmp_path, reliable.url, source)
    folder = locations.answers_folder(context.folder.home, context.profile)
    folder.mkdir(parents=True)
    old = {"sample": 0, "finish": "stop", "prompt_tokens": 9, "completion_tokens": 9}
    lines = [
        {"ex_id": "train-00000", "text": "\\boxed{1}", "reasoning": "None and one is 1.", **old},
        {"ex_id": "train-00001", "text": "So 1 + 1 = 2. \\boxed{2}", "reasoning": "", **old},
        {"ex_id": "train-00001", "text": "HTTP 500", "reasoning": "", **old, "finish": "lost"},
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    traces, report = collect(context, make_rows(2))
    assert [trace.text for trace in traces] == [
        "None and one is 1.\n\n\\boxed{1}",
        "So 1 + 1 = 2. 2\n\n\\boxed{2}",
    ]
    assert (report["asked_now"], report["without_reasoning"]["count"], reliable.log()) == (0, 1, [])


def test_refusals_that_are_left_for_the_next_attempt_do_not_hold_it_up(
    tmp_path: Path, source: Path, reliable: Teacher
) -> None:
    rows = make_rows(700)
    collect(context_for(tmp_path, reliable.url, source)[0], rows)
    refused = [DataRow(f"bad-{n}", f"forbidden: how many, {n}?", "#### 1", "1") for n in range(6)]
    traces, report = collect(context_for(tmp_path, reliable.url, source)[0], [*rows, *refused])
    assert (len(traces), report["dropped"]["unanswered"]["count"]) == (700, 6)


def test_refusals_before_the_first_answer_neither_end_the_stage_nor_waste_what_is_in_flight(
    tmp_path: Path, source: Path, reliable: Teacher
) -> None:
    """A refusal takes no time, and an answer takes long: with many in flight, refusals come first."""
    refused = [DataRow(f"bad-{n}", f"forbidden: how many, {n}?", "#### 1", "1") for n in range(8)]
    settings = ("traces.max_failed=0.5", "traces.concurrency=12")
    for asked_now in (38, 0):
        context, _ = context_for(tmp_path, reliable.url, source, *settings)
        traces, report = collect(context, [*refused, *make_rows(30)])
        assert (len(traces), len(report["given_up"]), report["asked_now"]) == (30, 8, asked_now)
    assert set(reliable.answered().values()) == {1}


def test_a_teacher_that_begins_to_refuse_everything_has_refused_nothing(
    tmp_path: Path, source: Path, reliable: Teacher
) -> None:
    """Some providers send HTTP 400 when the balance is used up: those questions are asked again later."""
    rows = make_rows(5)
    collect(context_for(tmp_path, reliable.url, source)[0], rows)
    blocked = [DataRow(f"bad-{n}", f"forbidden: how many, {n}?", "#### 1", "1") for n in range(60)]
    settings = ("traces.concurrency=2", "traces.max_failed=1")
    with pytest.raises(StageFailed, match=r"answered none of 2\d questions in a row"):
        collect(context_for(tmp_path, reliable.url, source, *settings)[0], [*rows, *blocked])
    context = context_for(tmp_path, reliable.url, source)[0]
    with AnswerJournal(locations.answers_folder(context.folder.home, context.profile)) as journal:
        assert (len(journal.answers), journal.refused) == (5, {})


def test_a_damaged_answer_is_named_and_its_question_asked_again(
    tmp_path: Path, source: Path, reliable: Teacher
) -> None:
    context, _ = context_for(tmp_path, reliable.url, source)
    collect(context, make_rows(6))
    path = locations.answers_folder(context.folder.home, context.profile) / "answers.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"sample"', b'"simple"')
    path.write_bytes(b"".join(lines))
    context, told = context_for(tmp_path, reliable.url, source)
    traces, _ = collect(context, make_rows(6))
    assert [trace.answer for trace in traces] == [str(number + 1) for number in range(6)]
    assert sorted(reliable.answered().values()) == [1, 1, 1, 1, 1, 2]
    assert any(f"{path}: 1 damaged lines (4)" in event.message for event in lines_of(told, "log"))
    assert path.read_bytes().splitlines(keepends=True)[:6] == lines
