r"""Find the final answer in a completion.

Candidates in order: the last closed `\boxed{...}` or whole `#### N` line, whichever is later; the last whole
"the answer is ..."; a last sentence that holds one number. Thinking (`...</think>`) is excluded.
Only written text counts. An answer that the token limit left open does not exist, and the last whole one
before it counts. The text is read in one pass, so every input takes linear time.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from engine.grading.statements import MAX_TAIL, last_sentence, stated

_BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\(?:boxed|fbox)\s+(?P<bare>-?[\w.]+)|\\[{}\\]|[{}]")
_SPACE = r"(?:[\s$]|\\[,;:! ()\[\]]|\\q?quad(?![a-z])|\\\\|&|\\(?:hspace|vspace)\{[^{}]*\})*"
_BETWEEN_BOXES = re.compile(
    rf"{_SPACE}(?P<first>[.,;]?){_SPACE}(?:\\(?:text|textrm|mathrm|mbox)\{{\s*)?(?P<word>,?\s*(?:or|and|also)\b|,|;|、|和|と|와|과|及|或)?"
    rf"\s*(?:\}})?{_SPACE}(?:[A-Za-z](?:_\{{?\w\}}?)?\s*={_SPACE})?\Z"
)
_LABEL_BEFORE = re.compile(r"([A-Za-z](?:_\{?\w\}?)?)\s*=[\s$]*\Z")
_MAX_BETWEEN = 60
# Characters from the end in which a marked answer is searched.
MAX_TEXT = 1_000_000


class Box(NamedTuple):
    r"""A closed `\boxed{content}` and its position in the text."""

    start: int
    end: int
    content: str


def final_answer(completion: str, finished: bool = True) -> str:
    """Return the text of the final answer, or "".

    Args:
        finished: False if the completion was cut at its token limit. A closed box counts in any case. A
            `####` line or a sentence then counts only if text follows it.
    """
    text = without_thinking(completion)[-MAX_TEXT:]
    marked = _marked(text, finished)
    if marked:
        return marked
    tail = text[-MAX_TAIL:]
    return stated(tail, finished) or (last_sentence(tail) if finished and marked is None else "")


def without_thinking(completion: str) -> str:
    """Return the part of `completion` after its thinking.

    It is the text after the last `</think>`. Without one, it is the text before `<think>`, or all of it.
    """
    if "</think>" in completion:
        return completion.rpartition("</think>")[2]
    return completion.partition("<think>")[0]


def boxes(text: str) -> tuple[list[Box], bool]:
    """Return the outermost closed, non-empty boxes of `text`, in order.

    The second value is True if a box is still open at the end.
    """
    found: list[Box] = []
    # Start of a box and start of its content; None for another brace.
    open_braces: list[tuple[int, int] | None] = []
    # Number of open boxes.
    depth = 0
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
    """Return the answer under the last whole marker.

    Without a marker it is `None`; without a whole one it is "".
    """
    found: list[Box] = []
    left_open = False
    if "\\boxed" in text or "\\fbox" in text:
        found, left_open = boxes(text)
    line = _hash_line(text, found, finished)
    if line:
        return line
    if found:
        return joined(text, found)
    return "" if left_open or line == "" else None


def _hash_line(text: str, found: list[Box], finished: bool) -> str | None:
    """Return the last whole `#### N` line after the last box.

    If the only one is cut off it is ""; without any it is `None`.
    """
    cut = None
    start = found[-1].end if found else 0
    end = len(text)
    while (hash_at := text.rfind("####", start, end)) >= 0:
        line, newline, _ = text[hash_at + 4 : end].lstrip(" \t*#").partition("\n")
        # "#### Conclusion" is a heading, so it does not replace a box.
        if line.strip() and (not found or any(map(str.isdigit, line))):
            if finished or newline or end < len(text):
                return line.strip(" \t*")
            cut = ""
        end = hash_at
    return cut


def joined(text: str, found: list[Box]) -> str:
    """Return the last box, joined with earlier boxes of the same statement.

    They belong together if only "and", "or" or a comma separates them. The result is their contents with commas,
    each as `name = content` if every box has a name before it.

    Args:
        text: the completion.
        found: its boxes, in order; not empty.
    """
    first = len(found) - 1
    while first and _parts_of_one(text, found[first - 1], found[first]):
        first -= 1
    if first == len(found) - 1:
        return found[-1].content
    labels = [_LABEL_BEFORE.search(text[max(0, box.start - 12) : box.start]) for box in found[first:]]
    names = {label[1] for label in labels if label}
    if len(names) == len(labels):
        return ", ".join(
            f"{label[1]} = {box.content}" for label, box in zip(labels, found[first:], strict=True) if label
        )
    return ", ".join(box.content for box in found[first:])


def _parts_of_one(text: str, left: Box, right: Box) -> bool:
    between = text[left.end : right.start]
    if len(between) > _MAX_BETWEEN:
        return False
    match = _BETWEEN_BOXES.match(between)
    return match is not None and bool(match["word"] or match["first"] in (",", ";"))
