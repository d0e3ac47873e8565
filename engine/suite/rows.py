"""From lm-eval's samples to rows of the record: one a document and measure, in a form that can be paired. Pure.

`score` is the document's value of the measure: 0 or 1 for accuracies, a fraction for TruthfulQA, and for a perplexity
the log-likelihood of the document. `tokens` are those of a generated answer, or the words of such a document. An answer
that ran out of tokens and is not right is `truncated`; a document whose measure, or one of whose log-likelihoods, is no
number is an `error`, and counts as wrong. A task's first measure goes under the task's name, others under TASK/MEASURE,
without repeating a question that only its choices were scored for. Where the stock scorer misreads boxed answers,
TASK/math_verify is the verdict of our grader.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from engine.generators.interface import Generated
from engine.grading import grade
from store.records import LOGLIKELIHOOD, MATH_VERIFY, ROUNDING, Example

_PERPLEXITIES = frozenset(
    {"word_perplexity", "perplexity"}
)  # of (log-likelihood, words), and of a single answer
_LEFT_OUT = frozenset({"byte_perplexity", "bits_per_byte"})  # the same log-likelihood in other units
# Log-likelihoods' differences and the best of percentages (CrowS-Pairs, TruthfulQA): of an arm that says little all may
# lie between 0 and 1, and another arm's would not be beside them.
_NO_SHARES = ("_diff", "_max")
_UNFILTERED = "none"

Sample = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Leaf:
    """Whose rows they are: an arm's at a step, of lm-eval's task `name`, recorded under `task`."""

    arm: str
    step: int
    task: str
    name: str


def rows(
    leaf: Leaf, samples: Sequence[Sample], generated: Mapping[tuple[str, int], Generated]
) -> Iterator[Example]:
    """The rows of all samples of a leaf task, in the documents' order.

    `generated` has the answers that were generated, by leaf task and document. Measures that are no score of a single
    document between 0 and 1 (BLEU over a corpus, say) are left out.
    """
    ordered = sorted(samples, key=lambda sample: int(sample["doc_id"]))
    usable = _usable(ordered)
    first = _first_measure(samples, usable)
    verified: set[int] = set()
    for sample in ordered:
        document = int(sample["doc_id"])
        answer = generated.get((leaf.name, document))
        for measure, value in _measures(sample):
            if measure in usable:
                yield _row(leaf, sample, measure, measure == first, value, answer)
        gold = _math_answer(leaf.name, sample["doc"])
        if gold is not None and document not in verified:
            verified.add(document)
            yield _verified(leaf, sample, gold, answer)


def _usable(samples: Sequence[Sample]) -> set[str]:
    values: dict[str, list[Any]] = {}
    for sample in samples:
        for measure, value in _measures(sample):
            values.setdefault(measure, []).append(value)
    return {measure for measure, found in values.items() if is_perplexity(measure) or _are_shares(found)}


def _first_measure(samples: Sequence[Sample], usable: set[str]) -> str:
    """The task's own first measure, under its first filter."""
    return next((name for sample in samples for name, _ in _measures(sample) if name in usable), "")


def _measures(sample: Sample) -> list[tuple[str, Any]]:
    """Names, with the filter behind them where the task has several, and values."""
    filtered = sample.get("filter", _UNFILTERED)
    behind = "" if filtered == _UNFILTERED else f"/{filtered}"
    return [
        (name + behind, sample[name])
        for name in sample.get("metrics", ())
        if name in sample and name not in _LEFT_OUT and not name.endswith(_NO_SHARES)
    ]


def _are_shares(values: Sequence[Any]) -> bool:
    """Whether a measure has a share for its documents, but perhaps for a few that it could not be reckoned for."""
    shares = sum(_is_share(value) for value in values)
    return shares > 0 and all(_is_share(value) or _is_undefined(value) for value in values)


def _is_share(value: Any) -> bool:
    return isinstance(value, (Real, np.bool_)) and 0.0 <= float(value) <= 1.0 + ROUNDING


def _is_undefined(value: Any) -> bool:
    return isinstance(value, Real) and math.isnan(value)


def _is_unscored(sample: Sample) -> bool:
    """Whether a log-likelihood of the document is no number: lm-eval takes the first such choice for the likeliest."""
    return any(
        isinstance(answer, tuple) and _is_undefined(answer[0])
        for answers in sample["resps"]
        for answer in answers
    )


def is_perplexity(measure: str) -> bool:
    """Whether a measure's values are log-likelihoods."""
    return measure.partition("/")[0] in _PERPLEXITIES


def _row(
    leaf: Leaf, sample: Sample, measure: str, is_first: bool, value: Any, answer: Generated | None
) -> Example:
    score, words, outcome = _scored(measure, math.nan if _is_unscored(sample) else value)
    if outcome == "wrong" and _is_cut(answer):
        outcome = "truncated"
    prompt, output, generated = _texts(sample)
    whole = is_first or generated
    return Example(
        arm=leaf.arm,
        step=leaf.step,
        task=leaf.task if is_first else f"{leaf.task}/{measure}",
        ex_id=f"{leaf.name}:{sample['doc_id']}",
        sample=0,
        correct=outcome == "correct",
        score=score,
        outcome=outcome,
        prompt=prompt if whole else "",
        output=output if whole else "",
        tokens=words if answer is None else len(answer.token_ids),
        gold=str(sample.get("target", "")),
    )


def _scored(measure: str, value: Any) -> tuple[float, int, str]:
    """Score, words and outcome of a measure's value: a share, or what a perplexity is reckoned from."""
    if is_perplexity(measure):
        loglikelihood, words = value if isinstance(value, Sequence) else (value, 1)
        return float(loglikelihood), int(words), LOGLIKELIHOOD
    if _is_undefined(value):
        return 0.0, 0, "error"
    score = min(float(value), 1.0)
    return score, 0, "correct" if score == 1.0 else "wrong"


def _verified(leaf: Leaf, sample: Sample, gold: str, answer: Generated | None) -> Example:
    prompt, output, _ = _texts(sample)
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
        prompt=prompt,
        output=output,
        tokens=0 if answer is None else len(answer.token_ids),
        gold=gold,
        answer=verdict.answer,
    )


def _is_cut(answer: Generated | None) -> bool:
    return answer is not None and answer.finish == "length"


def _math_answer(leaf: str, doc: Mapping[str, Any]) -> str | None:
    """The gold answer of a task whose stock scorer misreads boxed ones; None of other tasks."""
    if leaf.startswith("hendrycks_math"):
        return str(doc["answer"])
    if leaf.startswith("gsm8k"):
        return str(doc["answer"]).rpartition("####")[2].strip()
    return None


def _texts(sample: Sample) -> tuple[str, str, bool]:
    """What was asked, what the model said or which choice it found likeliest, and whether it was a generated answer."""
    arguments = [
        tuple(argument.values()) if isinstance(argument, Mapping) else argument
        for argument in _arguments(sample)
    ]
    prompt = str(arguments[0][0])
    answers = sample["resps"]
    first = answers[0][0]
    if isinstance(first, str):
        return prompt, first, True
    if len(answers) == 1:
        return prompt, "", False
    likeliest = max(range(len(answers)), key=lambda choice: answers[choice][0][0])
    return prompt, str(arguments[likeliest][1]).strip(), False


def _arguments(sample: Sample) -> list[Any]:
    arguments = sample["arguments"]
    return list(arguments.values()) if isinstance(arguments, Mapping) else list(arguments)
