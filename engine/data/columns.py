"""Find a record's question, worked solution and answer by column name.

Case, spaces, `_` and `-` in a column's name are ignored. The first name of a list that a record has is used.
Candidates for the gold answer, in order: the text after `####` or in the last box of the answer column; that
column itself, if it is a number or one short line; the `####` or box at the end of the solution. An answer
column without an answer is the worked solution of one that has it (`answer` next to `final_answer`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from engine.grading.extraction import boxes

QUESTION = ("problem", "question", "prompt", "query", "input", "instruction")
# Text that a question refers to. It is placed before the question.
CONTEXT = ("instruction", "context", "passage", "body")
SOLUTION = (
    *("solution", "worked solution", "generated solution", "rationale", "explanation", "reasoning"),
    *("response", "output"),
)
# Names that mean a final answer in every data set. The names after them may mean something else.
FINAL = ("answer", "final answer", "expected answer", "ground truth", "gold")
ANSWER = (*FINAL, "target", "label", "result")

# A bare answer is one line without the words of a sentence: "3/4", "x = 2 or x = -2", "18 square feet".
_LONGEST_ANSWER = 200
_MOST_WORDS = 5
_MOST_WORDS_OF_A_SOLUTION = 1
_WORD = re.compile(r"(?<![\\A-Za-z])[^\W\d_]{2,}")
# A solution column must hold this to count as a bare answer.
_VALUE = re.compile(r"[\d\\]")
_SEPARATORS = re.compile(r"[\s_-]+")


class ColumnNames(NamedTuple):
    """Names of a record's columns; "" for one that it does not have."""

    context: str
    question: str
    solution: str
    answer: str


def columns_of(record: Mapping[str, Any]) -> ColumnNames:
    """Return the names of the columns of `record`.

    A column that is null or blank counts as absent.
    """
    names = {
        _SEPARATORS.sub(" ", str(name).strip()).casefold(): str(name)
        for name, value in record.items()
        if value is not None and not (isinstance(value, str) and not value.strip())
    }
    compact = {name.replace(" ", ""): original for name, original in names.items()}
    question, solution, answer, context = (
        _present(compact, group) for group in (QUESTION, SOLUTION, ANSWER, CONTEXT)
    )
    named = [compact[key] for known in FINAL if (key := known.replace(" ", "")) in compact]
    stated = next((name for name in named if _states(record[name])), answer)
    if stated != answer and not solution:
        solution = answer
    return ColumnNames("" if context == question else context, question, solution, stated)


def _present(compact: Mapping[str, str], group: Sequence[str]) -> str:
    """Return the record's own name for the first known column, or "".

    The names to look for are those of `group`, in order.
    """
    return next((compact[key] for known in group if (key := known.replace(" ", "")) in compact), "")


def _states(value: Any) -> bool:
    """Return True if an answer column holds a bare answer.

    It is False for a text that leads to an answer.
    """
    text = as_text(value)
    return text is None or bool(gold_in(text)) or is_bare(text)


def as_text(value: Any) -> str | None:
    """Return a text, or a number as it is written; None for everything else.

    A whole number stays whole: files that only have floats hold 142 as 142.0.
    """
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return None
    return str(int(value)) if value == int(value) else format(Decimal(str(value)), "f")


def solution_and_gold(solution: str, answer: str) -> tuple[str, str]:
    """Return the solution and the gold answer from the two columns.

    Each is "" if it is missing.
    GSM8K's answer column holds both. If there is a solution column, the answer column is the answer in any
    form.
    """
    if "####" in answer:
        return answer, gold_in(answer)
    if answer:
        alone = is_bare(answer)
        gold = gold_in(answer) or (answer if solution or alone else "")
        return solution or ("" if alone else answer), gold
    if not gold_in(solution) and is_bare(solution, _MOST_WORDS_OF_A_SOLUTION) and _VALUE.search(solution):
        return "", solution
    return solution, gold_in(solution)


def gold_in(text: str) -> str:
    """Return the answer after the last `####` of `text`, or in its box, or "".

    If there are several boxes, the last one counts.
    A box takes precedence over a heading, which has no digit ("#### Conclusion").
    """
    _, mark, tail = text.rpartition("####")
    found = boxes(tail)[0] or boxes(text)[0]
    line = tail.strip().partition("\n")[0].strip() if mark else ""
    if found and (boxes(tail)[0] or not any(map(str.isdigit, line))):
        return found[-1].content.strip()
    return line


def is_bare(answer: str, words: int = _MOST_WORDS) -> bool:
    """Return True if `answer` is only an answer of at most `words` words.

    A text that leads to an answer gives False.
    """
    if "####" in answer or "\n" in answer or len(answer) > _LONGEST_ANSWER:
        return False
    return len(_WORD.findall(answer)) <= words
