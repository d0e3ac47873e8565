"""Where a completion states its final answer.

In order: the last `\\boxed{...}` or `#### N`, whichever stands later; the last "the answer is ..."; a last sentence
that holds one number. Thinking (`...</think>`) is left out. One pass over the text, so that no input takes more
than linear time.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\(?:boxed|fbox)\s+(?P<bare>-?[\w.]+)|\\[{}\\]|[{}]")
_BETWEEN_BOXES = re.compile(r"[\s$.,;]*(?:\\text\{\s*)?(?:or|and|,|;)?(?:\s*\})?[\s$,;]*\Z")
_STATED = re.compile(
    r"\b(?:final\s+answer|answer|result)\b[\s*_]*(?:(?:is|are|equals|will\s+be|would\s+be)\b|[:=])"
    r"[\s*_]*:?[\s*_]*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<![A-Z\s])[.!?](?=\s|\*|$)")
_NUMBER = re.compile(r"(?<![\w.])[-−]?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?(?![\w])")
_ALTERNATIVE = re.compile(r"\b(?:or|either|maybe|perhaps|between|not)\b", re.IGNORECASE)
_CALCULATION = re.compile(r"<<[^<>\n]*>>")
_MAX_TAIL = 4000  # characters from the end in which an answer without a marker is looked for


class Box(NamedTuple):
    """A closed `\\boxed{content}` and where it lies in the text."""

    start: int
    end: int
    content: str


def final_answer(completion: str, finished: bool = True) -> str:
    """The text of the final answer, or "" where there is none.

    Where the completion did not end by itself, only an answer that is certainly whole counts: a closed box that no
    open one follows, a `####` line or a sentence with more text behind it.
    """
    text = spoken(completion)
    marked = _marked(text, finished)
    if marked is not None:
        return marked
    tail = text[-_MAX_TAIL:]
    return _stated(tail, finished) or (_last_sentence(tail) if finished else "")


def spoken(completion: str) -> str:
    """`completion` without the thinking that comes before the answer; thinking that never ended leaves nothing."""
    if "</think>" in completion:
        return completion.rpartition("</think>")[2]
    return completion.partition("<think>")[0]


def boxes(text: str) -> tuple[list[Box], bool]:
    """The outermost closed boxes of `text` that hold something, in order, and whether one is left open at the end."""
    found: list[Box] = []
    open_braces: list[
        tuple[int, int] | None
    ] = []  # of a box: where it and its content start; None: another brace
    depth = 0  # boxes open now
    for token in _BOX_TOKEN.finditer(text, max(text.find("\\boxed"), 0) if "\\fbox" not in text else 0):
        mark = token.group()
        if token["bare"] is not None:
            if not depth:
                found.append(Box(token.start(), token.end(), token["bare"].rstrip(".")))
        elif mark == "{":
            open_braces.append(None)
        elif mark == "}":
            opened = open_braces.pop() if open_braces else None
            if opened is not None:
                depth -= 1
                content = text[opened[1] : token.start()]
                if not depth and content.strip():
                    found.append(Box(opened[0], token.end(), content))
        elif mark[1] in "bf":
            open_braces.append((token.start(), token.end()))
            depth += 1
    return found, depth > 0


def _marked(text: str, finished: bool) -> str | None:
    """The answer under the last marker; None where there is no marker, "" where it is cut off."""
    found: list[Box] = []
    if "\\boxed" in text or "\\fbox" in text:
        found, left_open = boxes(text)
        if left_open and not (finished and found):
            return ""
    hash_at = text.rfind("####")
    if hash_at >= 0 and not (found and found[-1].end > hash_at):
        line, newline, _ = text[hash_at + 4 :].lstrip(" \t*#").partition("\n")
        # "#### Conclusion" is a heading: it does not outdo a box.
        if line.strip() and (not found or any(map(str.isdigit, line))):
            return line.strip(" \t*") if finished or newline else ""
    return _joined(text, found) if found else None


def _joined(text: str, found: list[Box]) -> str:
    """The last box, with those before it that only "and", "or" or a comma parts from it: they are one statement."""
    first = len(found) - 1
    while first and _parts_of_one(text, found[first - 1], found[first]):
        first -= 1
    return ", ".join(box.content for box in found[first:])


def _parts_of_one(text: str, left: Box, right: Box) -> bool:
    between = text[left.end : right.start]
    joins = any(word in between for word in ("or", "and", ",", ";"))
    return joins and len(between) <= 24 and _BETWEEN_BOXES.match(between) is not None


def _stated(tail: str, finished: bool) -> str:
    stated = list(_STATED.finditer(tail))
    if not stated:
        return ""
    line, newline, _ = tail[stated[-1].end() :].partition("\n")
    end = _SENTENCE_END.search(line)
    if not finished and end is None and not newline:
        return ""
    return (line[: end.start()] if end else line).strip(" *_")


def _last_sentence(tail: str) -> str:
    """The one number of the last sentence (of its part after the last "="), or ""."""
    lines = tail.strip().splitlines()
    if not lines:
        return ""
    line = _CALCULATION.sub("", lines[-1]).strip(" *")
    sentence = [part for part in re.split(r"(?<=[.!?])\s+", line) if part][-1:] or [""]
    statement = sentence[0].rpartition("=")[2]
    numbers = {number.group() for number in _NUMBER.finditer(statement)}
    if len(numbers) != 1 or _ALTERNATIVE.search(sentence[0]):
        return ""
    return numbers.pop().rstrip(",")
