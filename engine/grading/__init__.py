"""The one grader: reward, validation, test and `mathrl-tui grade` all ask `grade` and nothing else.

The final answer is found (`grading_extraction`), brought into one form (`grading_text`) and compared with the gold
one (`grading_equality`): numbers exactly, as fractions, within microseconds; lists, tuples and intervals part by
part; what is left by math-verify in a child process under a deadline (`grading_symbolic`). Only the answer counts:
there is nothing to gain by form, and several answers are no answer to a question that has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from engine.grading.equality import Answer, read_answer, same
from engine.grading.extraction import boxes, final_answer
from store.records import Outcome

MAX_ANSWER = 400  # characters; nothing longer is a final answer
_CACHED_GOLDS = 20_000


@dataclass(frozen=True, slots=True)
class Grade:
    """A verdict. `answer` is what was extracted, in one form ("18.00" and "$18" both give "18"); empty: none.

    Outcome `truncated`: the completion ran out of tokens before it gave an answer.
    """

    correct: bool
    answer: str
    outcome: Outcome


def grade(completion: str, gold: str, *, truncated: bool = False) -> Grade:
    """The verdict on `completion` against `gold` (an answer, or a solution that ends in `#### N` or a box).

    `truncated` says that the completion was cut at its token limit: an answer at the very end may then be half of
    one and does not count. ValueError where `gold` holds no answer.
    """
    expected = read_gold(gold)
    text = final_answer(completion, finished=not truncated)
    if not text:
        return Grade(False, "", "truncated" if truncated else "no_answer")
    if len(text) > MAX_ANSWER:
        return Grade(False, text[:MAX_ANSWER], "wrong")
    answer = read_answer(text)
    correct = same(answer, expected)
    return Grade(correct, answer.canonical, "correct" if correct else "wrong")


@lru_cache(_CACHED_GOLDS)
def read_gold(gold: str) -> Answer:
    """The answer that `gold` states; ValueError where it states none."""
    text = gold.rpartition("####")[2].strip()
    if "\\boxed" in text or "\\fbox" in text:
        found, _ = boxes(text)
        text = found[-1].content if found else ""
    if not text.strip():
        raise ValueError(
            f"gold answer {gold[-60:]!r} is empty; give the answer itself or a solution ending in '#### N'"
        )
    return read_answer(text)
