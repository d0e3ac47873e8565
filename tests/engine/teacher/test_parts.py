"""The parts of the stage `traces`: journal, pace, Retry-After, replies, budget, key, cleaning."""

from __future__ import annotations

import json
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from engine.context import StageFailed
from engine.data.rows import DataRow
from engine.data.trace import Trace
from engine.grading import grade
from engine.server_client.connection import AsyncServerConnection
from engine.teacher.body import TracePart, body_of
from engine.teacher.budget import Budget
from engine.teacher.cleaning import Cleaned, clean_answers, clean_body
from engine.teacher.given_up import allowed
from engine.teacher.journal import AnswerJournal, TeacherAnswer
from engine.teacher.key import KeyMissing, find_key, without_key
from engine.teacher.own import own_solutions
from engine.teacher.pace import Pace
from engine.teacher.request import QuestionRefused, TryAgain, ask, read_reply
from profiles.load import load
from store.env_file import read_env_file
from tests.support.fake_teacher import KEY
from tests.support.places import SHARED
from tests.support.stage_context import gsm_row

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="MATHRL_SHARED names no folder")
BOX = "Please reason step by step, and put your final answer within \\boxed{}."


def test_the_journal_keeps_whole_lines_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(number: int) -> TeacherAnswer:
        return TeacherAnswer(f"q{number}", 0, "t\n\u2028é", "r", "stop", 10, 20)

    with AnswerJournal(tmp_path) as journal:
        journal.append(answer(1))
        journal.append(TeacherAnswer("q2", 0, "cut", "", "lost", 5, 7))
        with pytest.raises(ValueError, match="answered before"):
            journal.append(answer(1))
        write = os.write
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda handle, data: write(handle, data[:9]))
            with pytest.raises(StageFailed, match="no room for an answer"):
                journal.append(answer(2))
        journal.append(answer(3))
    with (tmp_path / "answers.jsonl").open("ab") as file:
        file.write(b'{"ex_id": "q4"')
    with AnswerJournal(tmp_path) as journal:
        assert journal.answers == {("q1", 0): answer(1), ("q3", 0): answer(3)}
        assert journal.tokens() == (25, 47)
        journal.append(answer(4))
    with AnswerJournal(tmp_path) as journal:
        assert len(journal.answers) == 3


def test_single_failures_do_not_slow_the_pace_and_overload_does() -> None:
    pace = Pace(50)
    for turn in range(1000):
        pace.failed() if turn % 5 == 0 else pace.succeeded()
    assert pace.limit == 50 and not pace.overloaded
    assert pace.wait(0) <= 0.1
    for _ in range(400):
        pace.failed()
    assert pace.limit < 10 and pace.wait(0) >= 1.0
    assert pace.wait(30) <= 60
    for _ in range(3000):
        pace.succeeded()
    assert pace.limit == 50
    assert pace.wait(3, asked=17.0) >= 17.0, "what the server asks for is the least"


def test_a_server_with_room_for_ten_is_found() -> None:
    """A server that refuses every request beyond ten at a time: the limit settles near ten, not at one."""
    pace = Pace(50)
    limits = []
    for _ in range(2000):
        asked = int(pace.limit)
        for place in range(asked):
            pace.succeeded() if place < 10 else pace.failed()
        limits.append(pace.limit)
    assert 8 <= sum(limits[1000:]) / 1000 <= 25


def completion(**choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "\\boxed{1}"}
    return {"choices": [{"finish_reason": "stop", "message": message} | choice]}


@pytest.mark.parametrize(
    "found",
    [
        "<html>busy</html>",
        None,
        [],
        {},
        {"choices": []},
        {"choices": [{"message": {"content": "x"}}]},
        {"error": {"message": "overloaded"}},
        completion(finish_reason=None),
        completion(finish_reason="insufficient_system_resource"),
        completion(message={"content": ""}),
        completion(message={"content": 7}),
        completion(message=None),
    ],
)
def test_what_is_no_whole_answer_is_asked_again(found: Any) -> None:
    with pytest.raises(TryAgain):
        read_reply(found)


def test_half_an_emoji_can_be_written(tmp_path: Path) -> None:
    message = {"content": "\ud83d \\boxed{1}", "reasoning_content": "\ude00"}
    reply = read_reply(completion(message=message))
    (tmp_path / "trace").write_text(reply.text + reply.reasoning, encoding="utf-8")
    assert (reply.text, reply.reasoning) == ("? \\boxed{1}", "?")


async def test_a_request_that_never_left_is_not_counted_as_money() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as callers:
        address = full.getsockname()
        for _ in range(3):  # nobody accepts: further connections wait until their time is up
            caller = callers.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}/v1"
        async with AsyncServerConnection(url, KEY, timeout=0.3) as server:
            with pytest.raises(TryAgain, match="no answer in time") as caught:
                await ask(server, load("demo").traces, [{"role": "user", "content": "1 + 1?"}], KEY)
    assert not caught.value.billed


def test_replies_are_read_with_and_without_thinking_and_counts() -> None:
    assert read_reply(completion()).completion_tokens == 3
    message = {"content": "", "reasoning_content": "so long"}
    found = completion(finish_reason="length", message=message) | {
        "usage": {"prompt_tokens": 4, "completion_tokens": 9}
    }
    reply = read_reply(found)
    assert (reply.text, reply.reasoning, reply.finish) == ("", "so long", "length")
    assert (reply.prompt_tokens, reply.completion_tokens) == (4, 9)


def test_the_budget_by_hand() -> None:
    settings = load(
        "demo", ["traces.price_input=1", "traces.price_output=2", "traces.spending_cap=0.01"]
    ).traces
    budget = Budget(settings, prompt_tokens=1000, completion_tokens=2000, answers=10)
    assert budget.spent == pytest.approx(0.005)
    assert budget.estimate(prompt_characters=0, questions=100) == pytest.approx(100 * (64 + 2 * 200) / 1e6)
    reserved = budget.reserve(prompt_characters=36)
    assert reserved is not None and reserved == pytest.approx((100 + 2 * 2048) / 1e6)
    assert budget.reserve(36) is None
    budget.settle(reserved, 50, 100)
    assert budget.spent == pytest.approx(0.00525) and budget.reserved == pytest.approx(0)


def test_the_key_comes_from_environment_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    remote = load("qwen2.5-math-1.5b").traces
    assert find_key(remote, tmp_path) == KEY
    monkeypatch.delenv("DEEPSEEK_API_KEY")
    with pytest.raises(KeyMissing, match="set DEEPSEEK_API_KEY in the environment or in .env"):
        find_key(remote, tmp_path)
    (tmp_path / ".env").write_text('# keys\nexport OTHER=1\nDEEPSEEK_API_KEY = "sk-from-file"\n')
    assert find_key(remote, tmp_path) == "sk-from-file"
    assert (
        find_key(load("demo", ["traces.base_url=http://localhost:8000/v1"]).traces, tmp_path / "none")
        == "none"
    )
    said = without_key("Incorrect key sk-abcdef***wxyz,\nand secret, Bearer abc", "secret")
    assert said == "Incorrect key [key], and [key], [key]"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfDEEPSEEK_API_KEY=sk-1#2\r\n",
        b"DEEPSEEK_API_KEY=sk-1#2  # mine\n",
        b"DEEPSEEK_API_KEY='sk-1#2' # mine\n",
        b"DEEPSEEK_API_KEY=sk-1#2\nOTHER= # none yet\n# Schl\xfcssel\n",
    ],
)
def test_a_key_file_as_people_write_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".env").write_bytes(content)
    listed = read_env_file(tmp_path / ".env")
    assert (listed["DEEPSEEK_API_KEY"], listed.get("OTHER", "")) == ("sk-1#2", "")


CLEANED = [
    ("9 + 9 = 18\n\n\\boxed{18}", "9 + 9 = 18\n\n\\boxed{18}"),
    ("So \\boxed{9} twice is \\boxed{18}.", "So 9 twice is 18.\n\n\\boxed{18}"),
    ("9 + 9 = 18\n\n**Final Answer:** \\(\\boxed{18 \\text{ dollars}}\\).", "9 + 9 = 18\n\n\\boxed{18}"),
    ("It is 1{,}018.\n\\[\n\\boxed{\\$1{,}018.00}\n\\]", "It is 1{,}018.\n\n\\boxed{1018}"),
    ("<think>\\boxed{3}</think>Half.\n\\boxed{\\frac{1}{2}}", "Half.\n\n\\boxed{\\frac{1}{2}}"),
    ("9 + 9 = 18\n#### 18", "9 + 9 = 18\n\n\\boxed{18}"),
    (f"Sure! Let's solve this step by step.\n{BOX}\n9 + 9 = 18\n$\\boxed{{18}}$\nI hope this helps!",
     "9 + 9 = 18\n\n\\boxed{18}"),
    ("Let's see how many are left: 9.\nLet me add: 9 + 9 = 18.\n\\boxed{18}",
     "Let's see how many are left: 9.\nLet me add: 9 + 9 = 18.\n\n\\boxed{18}"),
    ("Let me call the apples $x$.\n---\n\n\n\nThen $2x = 18$.  \n\\boxed{9}",
     "Let me call the apples $x$.\n\nThen $2x = 18$.\n\n\\boxed{9}"),
    ("\\boxed{18}", "\\boxed{18}"),
]  # fmt: skip


def clean(text: str, instruction: str, finished: bool = True) -> Cleaned | None:
    """Return the training text of a teacher's answer; None if it states no final answer."""
    answer = TeacherAnswer("q", 0, text, "", "stop" if finished else "length", 1, 1)
    body = body_of(answer, "answer")
    return clean_body(body.text, body.stated, instruction) if body.stated else None


@pytest.mark.parametrize(("text", "expected"), CLEANED)
def test_cleaning(text: str, expected: str) -> None:
    cleaned = clean(text, BOX)
    assert cleaned is not None and cleaned.text == expected
    again = clean(cleaned.text, BOX)
    assert again is not None and again.text == expected, "cleaning what is clean changes nothing"


@pytest.mark.parametrize(
    ("answer", "gold"), [("20\\%", "0.2"), ("12.5 percent", "\\frac{1}{8}"), ("20\\%", "20")]
)
def test_cleaning_leaves_a_right_percentage_right(answer: str, gold: str) -> None:
    text = f"So it is \\boxed{{{answer}}}."
    cleaned = clean(text, BOX)
    assert grade(text, gold).correct
    assert cleaned is not None and grade(cleaned.text, gold).correct


def test_cleaning_without_an_answer_or_a_box() -> None:
    assert clean("I cannot tell.", BOX) is None
    assert clean("So it is \\boxed{1", BOX, finished=False) is None
    plain = clean("9 + 9 = 18, so \\boxed{18}.", "")
    assert plain is not None and plain.text == "9 + 9 = 18, so 18.\n#### 18"


REASONED = "Three pairs.\n3 + 3 = 6"
BODIES = [
    # text, reasoning field, finish, choice → text of the body, answer, whether it fell back
    ("\\boxed{6}", REASONED, "stop", "reasoning", (REASONED, "6", False)),
    (f"<think>{REASONED}</think>\\boxed{{6}}", "", "stop", "reasoning", (REASONED, "6", False)),
    (f"{REASONED}</think>\\boxed{{6}}", "", "stop", "reasoning", (REASONED, "6", False)),
    (f"<think>{REASONED}</think>\\boxed{{6}}", "", "stop", "answer", ("\\boxed{6}", "6", False)),
    ("So \\boxed{6}", REASONED, "stop", "both", (f"{REASONED}\n\nSo \\boxed{{6}}", "6", False)),
    ("So \\boxed{6}", "", "stop", "reasoning", ("So \\boxed{6}", "6", True)),
    ("So \\boxed{6}", "", "stop", "both", ("So \\boxed{6}", "6", True)),
    ("So \\boxed{6}", "", "stop", "answer", ("So \\boxed{6}", "6", False)),
    ("", f"{REASONED}\nThe answer is 6.", "stop", "reasoning", (f"{REASONED}\nThe answer is 6.", "6", False)),
    ("", f"{REASONED}\nThe answer is 6.", "stop", "answer", ("", "", False)),
    (
        "",
        f"{REASONED}\nThe answer is 6.",
        "length",
        "reasoning",
        (f"{REASONED}\nThe answer is 6.", "", False),
    ),
    (f"<think>{REASONED}", "", "length", "reasoning", (REASONED, "", False)),
    (
        "<think>a\n\n</think>\n\nb <think>c</think>\\boxed{6}",
        "",
        "stop",
        "reasoning",
        ("a\nb\nc", "6", False),
    ),
    ("<think>a</think> b <think>c \\boxed{6}", "", "stop", "reasoning", ("a\nb\nc \\boxed{6}", "6", False)),
    ("<think>\n\n</think>\n\n\\boxed{6}", "", "stop", "reasoning", ("\\boxed{6}", "6", True)),
    (
        "It is 7. \\boxed{7}",
        "It may be \\boxed{6}.",
        "stop",
        "reasoning",
        ("It may be \\boxed{6}.", "7", False),
    ),
]


@pytest.mark.parametrize(("text", "reasoning", "finish", "choice", "expected"), BODIES)
def test_the_body_of_a_trace(
    text: str, reasoning: str, finish: str, choice: TracePart, expected: tuple[str, str, bool]
) -> None:
    assert tuple(body_of(TeacherAnswer("q", 0, text, reasoning, finish, 1, 1), choice)) == expected


def test_how_many_may_fail_is_rounded_up() -> None:
    by_hand = [
        (0.01, 10, 1),
        (0.01, 100, 1),
        (0.01, 101, 2),
        (0.01, 700, 7),
        (0.07, 100, 7),
        (0.0, 10, 0),
        (1, 9, 9),
    ]
    assert [allowed(share, questions) for share, questions, _ in by_hand] == [most for *_, most in by_hand]


@pytest.mark.parametrize(
    "choice", [{"finish_reason": "content_filter"}, {"message": {"content": None, "refusal": "I cannot."}}]
)
def test_a_refusal_is_told_from_a_failure(choice: dict[str, Any]) -> None:
    with pytest.raises(QuestionRefused, match="declined"):
        read_reply(completion(**choice))


def test_an_answer_of_reasoning_alone_is_one() -> None:
    reply = read_reply(completion(message={"content": None, "reasoning": "So it is 1."}))
    assert (reply.text, reply.reasoning) == ("", "So it is 1.")


@pytest.mark.shared
@needs_shared
def test_real_reasoning_is_kept_line_by_line_and_ends_in_the_answer() -> None:
    profile = load("demo", [f"preprocess.system_prompt={BOX}"])
    for row in json.loads((SHARED / "data/deepseek_r1_sample.json").read_text()):
        gold = DataRow("q", row["problem"], "", row["gtruth_answer"])
        answer = TeacherAnswer("q", 0, row["message_content"], row["message_thinking"], "stop", 1, 1)
        facts = {"model": "r1", "dollars": 0.0, "given_up": []}
        (trace,), report = clean_answers([gold], [answer], profile, facts)
        assert trace.correct and report["without_reasoning"]["count"] == 0
        assert trace.text.endswith(f"\n\n\\boxed{{{row['gtruth_answer']}}}")
        kept = trace.text.rpartition("\n\n")[0].split("\n")
        thought = [line.rstrip() for line in row["message_thinking"].strip().split("\n")]
        assert [line for line in kept if line] == [line for line in thought if line], (
            "nothing of the sense is lost"
        )


@needs_shared
def test_cleaning_keeps_the_sense_of_real_answers() -> None:
    for row in json.loads((SHARED / "data/deepseek_r1_sample.json").read_text()):
        content = row["message_content"]
        cleaned = clean(f"<think>\n{row['message_thinking']}</think>\n\n{content}", BOX)
        assert cleaned is not None and cleaned.echoes == cleaned.meta == ()
        assert cleaned.text.endswith(f"\n\n\\boxed{{{row['gtruth_answer']}}}")
        assert cleaned.text.count("\\boxed") == 1
        kept, said = cleaned.text.split(), content.split()
        delimiters = {"\\[", "\\]"}
        assert [word for word in kept if word not in delimiters] == [
            word for word in said if word not in delimiters
        ]


def test_own_solutions_are_named_as_such() -> None:
    row = gsm_row(0)
    assert own_solutions([DataRow("train-00000", row["question"], row["answer"], "1")], BOX) == [
        Trace("train-00000", 0, "0 + 1 = 1\n\n\\boxed{1}", "1", correct=True, finished=True)
    ]
