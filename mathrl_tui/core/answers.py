"""A row's verdict and answer in words: right or wrong, a share, a choice, or a log-likelihood."""

from __future__ import annotations

from mathrl_tui.core import text
from store.records import LOGLIKELIHOOD, Example
from store.wording import human

_WORDS = {"truncated": "cut off, no answer", LOGLIKELIHOOD: "log-likelihood"}


def verdict(row: Example) -> str:
    """Return what became of a row: `correct`, `wrong, cut off`, `no answer`, `score 0.83`."""
    if row.is_share:
        return f"score {share(row.score)}"
    words = _WORDS.get(row.outcome, row.outcome.replace("_", " "))
    return f"{words}, cut off" if row.finish == "length" and row.outcome != "truncated" else words


def share(score: float) -> str:
    """Return a share with two digits; one that only rounds to 0 or 1 is shown as a bound: `>0.99`."""
    if 0.0 < score < 0.005:
        return "<0.01"
    return ">0.99" if 0.995 <= score < 1.0 else f"{score:.2f}"


def size(row: Example) -> str:
    """Return how long the completion or the document is; empty for a choice, which was not written."""
    if row.outcome == LOGLIKELIHOOD:
        return f"{text.count(row.tokens)} words"
    return f"{text.count(row.tokens)} tokens" if row.is_generated else ""


def prompt_note(row: Example) -> str:
    """Return how much of a prompt that did not fit was left out; empty if it was asked whole."""
    return f"prompt cut by {text.count(row.prompt_cut)} tokens at its start" if row.prompt_cut else ""


def given(row: Example) -> str:
    """Return the answer that was taken from a completion, or the choice that the model found likeliest."""
    return row.answer or ("" if row.is_generated else row.output)


def labelled(row: Example) -> list[tuple[str, str]]:
    """Return the right answer and the given one with their labels; of a log-likelihood only its value."""
    if row.outcome == LOGLIKELIHOOD:
        return [("log-likelihood", f"{human(f'{row.score:,.1f}')} nats")]
    if row.is_generated or row.outcome == "error":
        return [("gold", row.gold), ("extracted", given(row) or "none")]
    return [("right", row.gold), ("chosen", given(row) or "none")]
