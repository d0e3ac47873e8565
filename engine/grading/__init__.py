"""The grader of rewards, validation, tests and `mathrl-tui grade`.

    completion ─▶ extraction ─▶ text ─▶ numbers, clock ─▶ equality ─▶ symbolic ─▶ verdict
                  statements    characters  repeating      units       formula
                                markup      remarks        intervals   exact
                                words       dates          parts, equations, residues
                                            compounds      choices, ratios

- **Extraction**: the last closed box or whole `####` line, else the last sentence that states an answer.
- **Normalisation**: forms that look different and mean the same get one spelling. Comments after the answer
  are removed.
- **Reading**: an exact number with its unit, a time of day, a set of reals, a collection, an equation, a
  residue.
- **Comparison**: numbers as fractions, within microseconds; formulas in a child process under a deadline,
  exactly.

Rules:
- Only the answer counts. Its form gains nothing, and several answers do not answer a question with one
  answer.
- Only written text counts. A completion that was cut at its token limit is graded by the last answer that it
  holds whole: a closed box, a `####` line or a sentence that text follows. Without one it is `truncated`.
- Exact values: 0.33 is not 1/3. An irrational value also accepts its decimal if both agree when rounded to
  six decimals, and to one part in 100,000.
- Tuples are ordered, solution sets are not. Open and closed ends differ. A set holds an element once.
- "(C) 12" is option C and it is 12. Words for numbers, dates and measures in several units count as what they
  mean.
- A verdict depends on CPU time, never on wall time, so a busy machine does not change it. `undecided` marks a
  deadline.
- A unit counts if both sides state one: 100 cm is 1 m, 25 °C is not 25 °F. The half of the day must be stated
  if the gold answer states it.
- A digit group or a decimal comma with two possible readings stays unchanged: "1.000" is one, "3,14" is two
  numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from engine.grading.equality import ParsedAnswer, read_answer, same
from engine.grading.extraction import boxes, final_answer, joined
from engine.grading.symbolic import one_row
from store.records import Outcome

# Characters. Nothing longer is a final answer.
MAX_ANSWER = 400
_CACHED_GOLDS = 20_000


@dataclass(frozen=True, slots=True)
class Grade:
    """A verdict.

    Attributes:
        correct: True if the answer equals the gold answer.
        answer: the extracted answer, in one form ("18.00" and "$18" both give "18"); empty if none was found.
        outcome: `truncated` means that the completion was cut at its token limit and holds no whole answer.
        undecided: the answer counts as wrong because the comparison reached its deadline.
    """

    correct: bool
    answer: str
    outcome: Outcome
    undecided: bool = False


def grade(completion: str, gold: str, *, truncated: bool = False) -> Grade:
    """Grade `completion` against `gold`.

    Args:
        gold: an answer, or a solution that ends in `#### N` or a box.
        truncated: the completion was cut at its token limit; an answer at its very end may be incomplete.
    Raises: ValueError if `gold` holds no answer.
    """
    expected = read_gold(gold)
    text = final_answer(completion, finished=not truncated)
    if not text:
        return Grade(False, "", "truncated" if truncated else "no_answer")
    if len(text) > MAX_ANSWER:
        return Grade(False, text[:MAX_ANSWER], "wrong")
    with one_row() as row:
        answer = read_answer(text)
        correct = same(answer, expected)
    return Grade(correct, answer.canonical, "correct" if correct else "wrong", row.undecided and not correct)


@lru_cache(_CACHED_GOLDS)
def read_gold(gold: str) -> ParsedAnswer:
    """Return the answer that `gold` states.

    Raises: ValueError if it states none.
    """
    text = gold.rpartition("####")[2].strip()
    if "\\boxed" in text or "\\fbox" in text:
        found, _ = boxes(text)
        text = joined(text, found) if found else ""
    if not text.strip():
        raise ValueError(
            f"gold answer {gold[-60:]!r} is empty; give the answer itself or a solution ending in '#### N'"
        )
    if len(text) > MAX_ANSWER:
        raise ValueError(
            f"gold answer {text[:60]!r}... has {len(text):,} characters and no box or '#### N'; give the answer itself"
        )
    return read_answer(text)
