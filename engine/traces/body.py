"""Which part of a teacher's answer becomes a trace: its reasoning, its answer, or both.

A reasoning model sends its reasoning beside the answer (the message's `reasoning_content` or `reasoning`), or inside
it, before `</think>`. Both forms give the same two parts.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from engine.grading.extraction import final_answer
from engine.traces.journal import Answer

Choice = Literal["reasoning", "answer", "both"]

_END = "</think>"
_START = "<think>"


class Body(NamedTuple):
    """Text that a trace is made of, and the final answer that it must end with ("" if the teacher stated none)."""

    text: str
    stated: str
    fell_back: bool  # the teacher sent no reasoning, so `text` is its answer


def body_of(answer: Answer, choice: Choice) -> Body:
    """Return the part of `answer` that `choice` names; the answer itself if there is no reasoning.

    The final answer is the one stated in the teacher's answer, else the one that its finished reasoning ends with.
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


def parts(answer: Answer) -> tuple[str, str]:
    """Return reasoning and content. Reasoning that never ended leaves no content."""
    before, end, after = answer.text.rpartition(_END)
    if not end:
        opened, start, thinking = answer.text.partition(_START)
        before, after = (thinking, opened) if start else ("", answer.text)
    inside = before.partition(_START)[2] if _START in before else before
    return (answer.reasoning.strip() or inside.strip()), after.strip()
