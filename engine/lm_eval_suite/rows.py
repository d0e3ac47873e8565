"""Convert lm-eval's samples to rows of the record. Pure functions.

There is one row per document and measure, in a form that can be paired.
`score` is the document's value of the measure: 0 or 1 for accuracies, a share for TruthfulQA, and the
document's log-likelihood for a perplexity. If a measure has a share for any document, all of its rows are
`scored`, because a share is neither right nor wrong.
`tokens` are those of a generated answer, or the words of a document. An answer that ran out of tokens and is
not right is `truncated`, unless the scorer found an answer in it. A document with a NaN measure or
log-likelihood is an `error`, and counts as wrong.
A task's first measure has the task's name. Others have TASK/MEASURE, and do not repeat a question if only its
choices were scored. If the stock scorer misreads boxed answers, TASK/math_verify is the verdict of this
project's grader.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from engine.generators.interface import Generated
from engine.grading import grade
from engine.lm_eval_suite.choices import Choices, LoggedSample, arguments_of, choices_of
from store.records import LOGLIKELIHOOD, MATH_VERIFY, ROUNDING, SCORED, Example

# Values of (log-likelihood, words), and of a single answer.
_PERPLEXITIES = frozenset({"word_perplexity", "perplexity"})
# The same log-likelihood in other units.
_LEFT_OUT = frozenset({"byte_perplexity", "bits_per_byte"})
# Differences of log-likelihoods and the best of percentages (CrowS-Pairs, TruthfulQA). Those of a weak arm
# may all lie between 0 and 1, but another arm's would not, so the two could not be compared.
_NO_SHARES = ("_diff", "_max")
_UNFILTERED = "none"
# What lm-eval's filters return if they find no answer.
UNREAD = "[invalid]"


# Context and continuation → the rest of it, and the number of tokens lost.
Asked = Callable[[str, str], tuple[str, int]]


@dataclass(frozen=True, slots=True)
class RowOrigin:
    """Origin of rows: an arm at a step, and lm-eval's task `name`.

    The rows are recorded under `task` and read in `window`s of tokens.
    """

    arm: str
    step: int
    task: str
    name: str
    window: int = 0


@dataclass(frozen=True, slots=True)
class LeafMeasures:
    """The measures of a leaf task that can be recorded.

    Attributes:
        names: all of them.
        first: the task's main measure.
        shares: those with a value between 0 and 1 for each document.
    """

    names: frozenset[str]
    first: str
    shares: frozenset[str]


def rows(
    leaf: RowOrigin,
    samples: Sequence[LoggedSample],
    generated: Mapping[tuple[str, int], Generated],
    asked: Asked = lambda context, continuation: (context, 0),
) -> Iterator[Example]:
    """Yield the rows of a leaf task: one per document and measure.

    They are in the documents' order. In GSM8K and MATH this project's grader adds one more row.
    Measures that do not score a single document between 0 and 1 are omitted (for example, BLEU over a
    corpus).
    Args:
        generated: the generated answers, by leaf task and document.
        asked: returns the rest of a prompt that did not fit.
    """
    ordered = sorted(samples, key=lambda sample: int(sample["doc_id"]))
    measured = _measured(ordered, samples)
    verified: set[int] = set()
    for sample in ordered:
        document = int(sample["doc_id"])
        answer = generated.get((leaf.name, document))
        prompt = _prompt(sample, asked)
        for measure, value in _measures(sample):
            if measure in measured.names:
                yield _row(leaf, sample, measure, measured, value, answer, prompt)
        gold = _math_answer(leaf.name, sample["doc"])
        if gold is not None and document not in verified:
            verified.add(document)
            yield _verified(leaf, sample, gold, answer, prompt)


def _measured(ordered: Sequence[LoggedSample], samples: Sequence[LoggedSample]) -> LeafMeasures:
    values: dict[str, list[Any]] = {}
    for sample in ordered:
        for measure, value in _measures(sample):
            values.setdefault(measure, []).append(value)
    names = frozenset(
        measure for measure, found in values.items() if is_perplexity(measure) or _are_shares(found)
    )
    first = next((name for sample in samples for name, _ in _measures(sample) if name in names), "")
    shares = frozenset(
        name for name in names if not is_perplexity(name) and any(map(_is_between, values[name]))
    )
    return LeafMeasures(names, first, shares)


def _is_between(value: Any) -> bool:
    """Return True if a score is neither 0 nor 1."""
    return ROUNDING < float(value) < 1.0 - ROUNDING


def _measures(sample: LoggedSample) -> list[tuple[str, Any]]:
    """Return names and values.

    The filter follows the name if the task has several.
    """
    filtered = sample.get("filter", _UNFILTERED)
    behind = "" if filtered == _UNFILTERED else f"/{filtered}"
    return [
        (name + behind, sample[name])
        for name in sample.get("metrics", ())
        if name in sample and name not in _LEFT_OUT and not name.endswith(_NO_SHARES)
    ]


def _are_shares(values: Sequence[Any]) -> bool:
    """Return True if a measure has a share for its documents.

    It may be undefined for some of them.
    """
    shares = sum(_is_share(value) for value in values)
    return shares > 0 and all(_is_share(value) or _is_undefined(value) for value in values)


def _is_share(value: Any) -> bool:
    return isinstance(value, (Real, np.bool_)) and 0.0 <= float(value) <= 1.0 + ROUNDING


def _is_undefined(value: Any) -> bool:
    return isinstance(value, Real) and math.isnan(value)


def _is_unscored(sample: LoggedSample) -> bool:
    """Return True if a log-likelihood of the document is NaN.

    lm-eval takes the first such choice for the likeliest.
    """
    return any(
        isinstance(answer, tuple) and _is_undefined(answer[0])
        for answers in sample["resps"]
        for answer in answers
    )


def is_perplexity(measure: str) -> bool:
    """Return True if a measure's values are log-likelihoods."""
    return measure.partition("/")[0] in _PERPLEXITIES


def _row(
    leaf: RowOrigin,
    sample: LoggedSample,
    measure: str,
    measured: LeafMeasures,
    value: Any,
    answer: Generated | None,
    prompt: tuple[str, int],
) -> Example:
    score, words, outcome = _scored(measure, math.nan if _is_unscored(sample) else value)
    if measure in measured.shares and outcome != "error":
        outcome = SCORED
    is_first = measure == measured.first
    choices = choices_of(sample)
    if choices is None:
        output, extracted, gold = _written(sample), _extracted(sample), str(sample.get("target", ""))
        if outcome == "wrong":
            outcome = _not_right(extracted, answer)
    else:
        extracted, gold = _chosen(choices, measure, sample, outcome)
        output = extracted if is_first else ""
    if outcome == LOGLIKELIHOOD and gold == prompt[0]:
        # It is the document itself, which is not stored twice.
        gold = ""
    whole = is_first or answer is not None
    return Example(
        arm=leaf.arm,
        step=leaf.step,
        task=leaf.task if is_first else f"{leaf.task}/{measure}",
        ex_id=f"{leaf.name}:{sample['doc_id']}",
        sample=0,
        correct=outcome == "correct",
        score=score,
        outcome=outcome,
        prompt=prompt[0] if whole else "",
        output=output,
        tokens=words if answer is None else len(answer.token_ids),
        gold=gold,
        answer="" if extracted == UNREAD else extracted,
        finish="" if answer is None else answer.finish,
        prompt_cut=prompt[1],
        window_tokens=leaf.window,
    )


def _chosen(choices: Choices, measure: str, sample: LoggedSample, outcome: str) -> tuple[str, str]:
    """Return the choice that counts for `measure` and the right one.

    The first is empty if it contradicts the task's own verdict, so a row never shows a text that was not
    judged.
    """
    right, chosen = choices.right(sample), choices.chosen(measure)
    gold = "; ".join(choices.texts[number] for number in right) or str(sample.get("target", ""))
    if chosen is None or (
        outcome in ("correct", "wrong") and right and (chosen in right) != (outcome == "correct")
    ):
        return "", gold
    return choices.texts[chosen], gold


def _scored(measure: str, value: Any) -> tuple[float, int, str]:
    """Return score, words and outcome of a measure's value.

    The value is a share, or the basis of a perplexity.
    """
    if is_perplexity(measure):
        loglikelihood, words = value if isinstance(value, Sequence) else (value, 1)
        return float(loglikelihood), int(words), LOGLIKELIHOOD
    if _is_undefined(value):
        return 0.0, 0, "error"
    score = min(float(value), 1.0)
    return score, 0, "correct" if score == 1.0 else "wrong"


def _not_right(extracted: str, answer: Generated | None) -> str:
    """Return the outcome of an answer that is not right.

    It follows from what the task's filter extracted (empty: the task has no filter).
    """
    if extracted == UNREAD:
        return "truncated" if _is_cut(answer) else "no_answer"
    return "truncated" if _is_cut(answer) and not extracted else "wrong"


def _verified(
    leaf: RowOrigin, sample: LoggedSample, gold: str, answer: Generated | None, prompt: tuple[str, int]
) -> Example:
    output = _written(sample)
    verdict = grade(output, gold, truncated=_is_cut(answer))
    return Example(
        arm=leaf.arm,
        step=leaf.step,
        task=leaf.task + MATH_VERIFY,
        ex_id=f"{leaf.name}:{sample['doc_id']}",
        sample=0,
        correct=verdict.correct,
        score=float(verdict.correct),
        outcome=verdict.outcome,
        prompt=prompt[0],
        output=output,
        tokens=0 if answer is None else len(answer.token_ids),
        gold=gold,
        answer=verdict.answer,
        finish="" if answer is None else answer.finish,
        prompt_cut=prompt[1],
        window_tokens=leaf.window,
    )


def _is_cut(answer: Generated | None) -> bool:
    return answer is not None and answer.finish == "length"


def _math_answer(leaf: str, doc: Mapping[str, Any]) -> str | None:
    """Return the gold answer for a stock scorer that misreads boxes.

    Other tasks give None.
    """
    if leaf.startswith("hendrycks_math"):
        return str(doc["answer"])
    if leaf.startswith("gsm8k"):
        return str(doc["answer"]).rpartition("####")[2].strip()
    return None


def _prompt(sample: LoggedSample, asked: Asked) -> tuple[str, int]:
    """Return the prompt after the cut.

    The second value is the largest number of tokens that a request lost.
    """
    requests = arguments_of(sample)
    pairs = [
        (str(each[0]), each[1] if len(each) > 1 and isinstance(each[1], str) else "") for each in requests
    ]
    found = [asked(context, continuation) for context, continuation in pairs]
    return found[0][0], max(lost for _, lost in found)


def _written(sample: LoggedSample) -> str:
    """Return the generated answer; empty if the document was only read."""
    first = sample["resps"][0][0]
    return first if isinstance(first, str) else ""


def _extracted(sample: LoggedSample) -> str:
    """Return what the task's filter took from the generated answer.

    It is empty if it took the whole answer, or if no answer was generated.
    """
    written, filtered = _written(sample), sample.get("filtered_resps") or [""]
    first = filtered[0]
    return first if isinstance(first, str) and written and first.strip() != written.strip() else ""
