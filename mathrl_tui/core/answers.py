"""Verdict and answer of a row in words.

The answer is text, a fraction, a choice or a log-likelihood.
"""

from __future__ import annotations

from mathrl_tui.core import text
from store.records import LOGLIKELIHOOD, Example
from store.wording import human

_WORDS = {"truncated": "cut off, no answer", LOGLIKELIHOOD: "log-likelihood"}


def verdict(row: Example) -> str:
    """Return the verdict of a row.

    Examples: `correct`, `wrong, cut off`, `no answer`, `score 0.83`.
    """
    if row.is_share:
        return f"score {share(row.score)}"
    words = _WORDS.get(row.outcome, row.outcome.replace("_", " "))
    return f"{words}, cut off" if row.finish == "length" and row.outcome != "truncated" else words


def share(score: float) -> str:
    """Format a fraction with two digits.

    A fraction that only rounds to 0 or 1 becomes a bound: `>0.99`.
    """
    if 0.0 < score < 0.005:
        return "<0.01"
    return ">0.99" if 0.995 <= score < 1.0 else f"{score:.2f}"


def size(row: Example) -> str:
    """Return the length with its unit: "312 tokens" of a completion.

    Documents are counted in words. Returns: "" for a choice, which is not generated.
    """
    if row.outcome == LOGLIKELIHOOD:
        return f"{text.count(row.tokens)} words"
    return f"{text.count(row.tokens)} tokens" if row.is_generated else ""


def prompt_note(row: Example) -> str:
    """Return how many tokens of the prompt were cut; empty if it was complete."""
    return f"prompt cut by {text.count(row.prompt_cut)} tokens at its start" if row.prompt_cut else ""


def given(row: Example) -> str:
    """Return the answer extracted from a completion; "" if it has none.

    For a multiple-choice question, which generates nothing, it is the likeliest choice.
    """
    return row.answer or ("" if row.is_generated else row.output)


def labelled(row: Example) -> list[tuple[str, str]]:
    """Return the correct and the given answer with labels.

    A log-likelihood has only its value.
    """
    if row.outcome == LOGLIKELIHOOD:
        return [("log-likelihood", f"{human(f'{row.score:,.1f}')} nats")]
    if row.is_generated or row.outcome == "error":
        return [("gold", row.gold), ("extracted", given(row) or "none")]
    return [("right", row.gold), ("chosen", given(row) or "none")]
