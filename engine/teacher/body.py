"""Select the part of a teacher's answer that becomes a trace.

It is the reasoning, the answer, or both. A reasoning model sends its reasoning in a separate field (the
message's `reasoning_content` or `reasoning`), or inside the answer before `</think>`. Both forms give the
same two parts.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from engine.grading.extraction import final_answer
from engine.teacher.journal import TeacherAnswer

TracePart = Literal["reasoning", "answer", "both"]

_END = "</think>"
_START = "<think>"
_TAG = re.compile(r"\s*</?think>\s*")
_BLANK = re.compile(r"\n{3,}")


class Body(NamedTuple):
    """Text of a trace, and the final answer that it must end with.

    Attributes:
        stated: the final answer, "" if the teacher stated none.
        fell_back: the teacher sent no reasoning, so `text` is its answer.
    """

    text: str
    stated: str
    fell_back: bool


def body_of(answer: TeacherAnswer, choice: TracePart) -> Body:
    """Return the part of `answer` that `choice` names.

    Without reasoning it is the answer itself.
    The final answer is the one stated in the teacher's answer, else the one at the end of its finished
    reasoning.
    """
    reasoning, content = parts(answer)
    finished = answer.finish == "stop"
    stated = final_answer(content, finished)
    if choice == "answer":
        return Body(content, stated, fell_back=False)
    if not stated and finished:
        stated = final_answer(reasoning)
    if not reasoning:
        return Body(content, stated, fell_back=True)
    return Body(reasoning if choice == "reasoning" else f"{reasoning}\n\n{content}", stated, fell_back=False)


def parts(answer: TeacherAnswer) -> tuple[str, str]:
    """Split a teacher's answer into (reasoning, content), without tags.

    A teacher may think several times. Its content follows the last thought, and text between two thoughts
    belongs to the reasoning. If the last thought never ended, the content is the text before it, or empty if
    an earlier thought did end.
    """
    before, end, after = answer.text.rpartition(_END)
    content, start, thinking = after.partition(_START)
    if not end:
        inside, content = (thinking, content) if start else ("", answer.text)
    elif start:
        inside, content = f"{before}{_END}{content}{_START}{thinking}", ""
    else:
        inside = before
    inside = _TAG.sub("\n", inside)
    return (answer.reasoning.strip() or _BLANK.sub("\n\n", inside).strip()), content.strip()
