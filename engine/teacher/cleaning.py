"""Convert a teacher's answer to training text.

The meaning stays, lines about the task are removed, and the final answer moves to the end. Changes and
dropped answers are counted by reason, with examples, so that a person can judge the cleaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.data.prompts import ended
from engine.data.rows import DataRow
from engine.data.trace import Trace
from engine.grading import grade
from engine.grading.equality import read_answer
from engine.grading.extraction import Box, boxes
from engine.teacher.body import body_of
from engine.teacher.given_up import GivenUp, named
from engine.teacher.journal import TeacherAnswer
from profiles.schema import Profile

EXAMPLES = 3
_INSTRUCTION = re.compile(
    r"(?:please\s+)?(?:reason|think)\s+step[\s-]by[\s-]step\b.*|(?:please\s+)?put\s+(?:your|the)\s+final\s+answer\s+"
    r"(?:with)?in\b.*|.*\bfinal answer (?:with)?in \\?boxed\b.*|.*\b(?:with)?in \\boxed\{\s*\}.*",
    re.IGNORECASE,
)
# Whole lines without content about the problem. A line with a digit or a formula is never one of them.
_TASK = (
    r"(?:\s+(?:this|it|that|the|problem|question|task|down|through|out|step|steps|by|together|carefully|first|now|with|you"
    r"|solution|solve|and|to|find|answer|about|how|on|into|parts?|see|think|break|work|start|begin|everything)\b[,.]?)*"
)
_META = re.compile(
    r"(?:(?:okay|ok|sure|certainly|of course|alright|great|absolutely|hmm|well)\b[,.!]?\s*)?"
    rf"(?:(?:let'?s|let me|i'?ll|i will)\s+(?:think|see|solve|start|begin|break|work|go|help|tackle){_TASK}\s*[.:!]?"
    r"|here(?:'s| is)\s+(?:the|a|my)\s+(?:step-by-step|detailed|worked|full)?\s*(?:solution|answer|reasoning)"
    rf"{_TASK}[.:!]?"
    r"|(?:i\s+)?hope\s+(?:this|that)\s+helps.*|(?:please\s+)?feel free to (?:ask|reach)\b.*|let me know if\b.*"
    r"|if you have any (?:more |other |further )?questions\b.*|as an ai\b.*|(?:final\s+)?(?:answer|solution)\s*:?"
    r"|step[\s-]by[\s-]step\s+(?:solution|explanation|reasoning)\s*:?"
    r"|(?:the|my|your) final answer is(?: boxed)?(?: below)?\s*[:.]?)?",
    re.IGNORECASE,
)
_DECORATION = re.compile(r"\A[\s*_#>-]+|[\s*_]+\Z")
_RULE = re.compile(r"\s*(?:-{3,}|\*{3,}|_{3,})\s*\Z")
_HASH_LINE = re.compile(r"\n?[ \t]*####[^\n]*\Z")
_LONE_DELIMITERS = re.compile(r"(?:\\\[\s*\\\]|\$\$\s*\$\$|\\\(\s*\\\)|(?<!\\)\$\s*\$|\*\*\s*\*\*)[ \t]*\.?")
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+\n|\n[ \t]*\n")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Training text and the removed lines.

    Attributes:
        echoes: lines that repeat the instruction.
        meta: lines about the task.
    """

    text: str
    echoes: tuple[str, ...]
    meta: tuple[str, ...]


@dataclass(slots=True)
class EventCount:
    """A count of events, with the first few examples."""

    count: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)

    def add(self, ex_id: str, text: str) -> None:
        """Count one more event; keep the last 300 characters of an early one.

        Args:
            ex_id: id of the question.
            text: the teacher's answer.
        """
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append({"ex_id": ex_id, "text": text[-300:]})


def clean_body(body: str, answer: str, instruction: str) -> Cleaned:
    """Return `body`, cleaned line by line, with `answer` at its end.

    The answer has the form that `instruction` requests.
    """
    lines, echoes, meta = _lines(_HASH_LINE.sub("", body), instruction)
    kept = _without_boxes("\n".join(lines))
    kept = _BLANK_LINES.sub("\n\n", _LONE_DELIMITERS.sub("", kept)).strip()
    kept = "\n".join(line.rstrip() for line in kept.split("\n"))
    return Cleaned(ended(kept, normal_form(answer), instruction), tuple(echoes), tuple(meta))


def normal_form(answer: str) -> str:
    """Return a number without its unit, as the grader reads it.

    Any other answer stays unchanged. So does a percentage, because its sign is part of the value.
    """
    read = read_answer(answer)
    if read.number is None or read.number.percent or "frac" in answer or "/" in answer:
        return answer.strip()
    return read.canonical


def clean_answers(
    rows: Sequence[DataRow], answers: Sequence[TeacherAnswer | None], profile: Profile, facts: dict[str, Any]
) -> tuple[list[Trace], dict[str, Any]]:
    """Return traces from `answers`, and the report on them.

    Answers to the samples of one row are adjacent.
    """
    settings, instruction = profile.traces, profile.preprocess.system_prompt
    dropped = {name: EventCount() for name in ("unanswered", "truncated", "no_answer", "wrong")}
    changed = {name: EventCount() for name in ("instruction_echo", "meta_line")}
    no_reasoning = EventCount()
    traces: list[Trace] = []
    for row, answer in _pairs(rows, answers, settings.samples):
        body = body_of(answer, settings.body) if answer else None
        if answer is None or body is None or not body.stated:
            reason = (
                "unanswered" if answer is None else "truncated" if answer.finish == "length" else "no_answer"
            )
            dropped[reason].add(row.ex_id, answer.text if answer else "")
            continue
        if body.fell_back:
            no_reasoning.add(row.ex_id, body.text)
        cleaned = clean_body(body.text, body.stated, instruction)
        for name, lines in (("instruction_echo", cleaned.echoes), ("meta_line", cleaned.meta)):
            for line in lines:
                changed[name].add(row.ex_id, line)
        verdict = grade(cleaned.text, row.answer)
        if not verdict.correct and settings.wrong_answers == "drop":
            dropped["wrong"].add(row.ex_id, f"gold {row.answer}: {cleaned.text}")
            continue
        finished = answer.finish == "stop"
        traces.append(
            Trace(row.ex_id, answer.sample, cleaned.text, verdict.answer, verdict.correct, finished)
        )
    return traces, _report(facts | {"body": settings.body}, len(rows), traces, dropped, changed, no_reasoning)


def _pairs(
    rows: Sequence[DataRow], answers: Sequence[TeacherAnswer | None], samples: int
) -> Iterator[tuple[DataRow, TeacherAnswer | None]]:
    return ((rows[place // samples], answer) for place, answer in enumerate(answers))


def _report(
    facts: dict[str, Any],
    rows: int,
    traces: Sequence[Trace],
    dropped: dict[str, EventCount],
    changed: dict[str, EventCount],
    no_reasoning: EventCount,
) -> dict[str, Any]:
    wrong = sum(not trace.correct for trace in traces)
    return facts | {
        "questions": rows,
        "traces": len(traces),
        "wrong": wrong,
        "dropped": _counted(dropped),
        "removed": _counted(changed),
        "without_reasoning": {"count": no_reasoning.count, "examples": no_reasoning.examples},
        "summary": _summary(facts, rows, len(traces), wrong, dropped, no_reasoning),
    }


def _counted(tallies: dict[str, EventCount]) -> dict[str, Any]:
    return {name: {"count": tally.count, "examples": tally.examples} for name, tally in tallies.items()}


def _summary(
    facts: dict[str, Any],
    rows: int,
    traces: int,
    wrong: int,
    dropped: dict[str, EventCount],
    no_reasoning: EventCount,
) -> str:
    """Return the report in one line."""
    reasons = ", ".join(f"{tally.count:,} {name}" for name, tally in dropped.items() if tally.count)
    fell_back = (
        f"; {no_reasoning.count:,} came without reasoning and are the answer's text"
        if no_reasoning.count
        else ""
    )
    counts = f"{traces:,} traces of {facts['model']} for {rows:,} questions ({wrong:,} with a wrong answer)"
    without = f"dropped: {reasons or 'none'}{_without_answer(facts)}"
    return f"{counts}{fell_back}; {without}; ${facts['dollars']:,.2f}"


def _without_answer(facts: dict[str, Any]) -> str:
    """List the questions that the teacher did not answer."""
    given_up = [GivenUp(**question) for question in facts["given_up"]]
    return f"; no answer to {named(given_up)}" if given_up else ""


def _lines(text: str, instruction: str) -> tuple[list[str], list[str], list[str]]:
    """Sort the lines of `text` into three kinds.

    They are to keep, repeat the instruction, or are about the task.
    """
    kept: list[str] = []
    echoes: list[str] = []
    meta: list[str] = []
    repeated = " ".join(instruction.casefold().split())
    for line in text.split("\n"):
        bare = _DECORATION.sub("", line)
        if (
            bare
            and (" ".join(bare.casefold().split()) == repeated or _INSTRUCTION.fullmatch(bare))
            and not _says(bare)
        ):
            echoes.append(line)
        elif bare and _META.fullmatch(bare) and not _says(bare):
            meta.append(line)
        elif not _RULE.match(line):
            kept.append(line)
    return kept, echoes, meta


def _says(line: str) -> bool:
    """Return True if a line holds a figure or a formula.

    It then belongs to the solution.
    """
    return bool(re.search(r"\d|=|\\\(|\\\[|(?<!\\)\$|\\boxed\{\s*[^}\s]", line))


def _without_boxes(text: str) -> str:
    """Remove the boxes.

    A box that is alone on its line takes the line with it; others leave their content.
    """
    found, _ = boxes(text)
    for box in reversed(found):
        if _alone(text, box):
            start, end = text.rfind("\n", 0, box.start) + 1, text.find("\n", box.end)
            text = text[:start] + (text[end:] if end >= 0 else "")
        else:
            text = text[: box.start] + box.content + text[box.end :]
    return re.sub(r"\\boxed\{\s*\}", "", text)


def _alone(text: str, box: Box) -> bool:
    """Return True if only delimiters and a label surround the box on its line."""
    before = text[: box.start].rpartition("\n")[2]
    after = text[box.end :].partition("\n")[0]
    return not re.sub(r"[\s$*.\\\[\]()]|final|answer|the|is|:", "", before + after, flags=re.IGNORECASE)
