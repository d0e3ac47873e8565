"""From lm-eval's samples to rows of the record: one a document and measure, in a form that can be paired. Pure.

`score` is the document's value of the measure: 0 or 1 for accuracies, a fraction for TruthfulQA, and for a perplexity
the log-likelihood of the document, whose number of words stands in `tokens`. A task's first measure goes under the
task's name, others under TASK/MEASURE; where the stock scorer misreads boxed answers, TASK/math_verify is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.grading import grade
from store.records import Example

VERIFIED = "math_verify"
LOGLIKELIHOOD = "loglikelihood"  # the outcome of a row that is scored by log-likelihood, not by being correct
_PERPLEXITY = "word_perplexity"
_LEFT_OUT = frozenset({"byte_perplexity", "bits_per_byte"})  # the same log-likelihood in other units


def rows(arm: str, step: int, task: str, leaf: str, sample: Mapping[str, Any]) -> Iterator[Example]:
    """The rows of one lm-eval sample of leaf task `leaf` of `task`."""
    prompt, output = _texts(sample)
    for place, (measure, value) in enumerate(_measures(sample)):
        score, tokens = (float(value[0]), int(value[1])) if measure == _PERPLEXITY else (float(value), 0)
        yield Example(
            arm=arm,
            step=step,
            task=task if place == 0 else f"{task}/{measure}",
            ex_id=f"{leaf}:{sample['doc_id']}",
            sample=0,
            correct=measure != _PERPLEXITY and score == 1.0,
            score=score,
            outcome=_outcome(measure, score),
            prompt=prompt,
            output=output,
            tokens=tokens,
            gold=str(sample.get("target", "")),
        )
    if leaf.startswith("hendrycks_math"):
        yield _verified(arm, step, task, leaf, sample, prompt, output)


def _measures(sample: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        (name, sample[name]) for name in sample.get("metrics", ()) if name in sample and name not in _LEFT_OUT
    ]


def _outcome(measure: str, score: float) -> str:
    if measure == _PERPLEXITY:
        return LOGLIKELIHOOD
    return "correct" if score == 1.0 else "wrong"


def _verified(
    arm: str, step: int, task: str, leaf: str, sample: Mapping[str, Any], prompt: str, output: str
) -> Example:
    gold = str(sample["doc"]["answer"])
    verdict = grade(output, gold)
    return Example(
        arm=arm,
        step=step,
        task=f"{task}/{VERIFIED}",
        ex_id=f"{leaf}:{sample['doc_id']}",
        sample=0,
        correct=verdict.correct,
        score=float(verdict.correct),
        outcome=verdict.outcome,
        prompt=prompt,
        output=output,
        tokens=0,
        gold=gold,
        answer=verdict.answer,
    )


def _texts(sample: Mapping[str, Any]) -> tuple[str, str]:
    """What was asked, and what the model said or which choice it found likeliest."""
    arguments = [
        tuple(argument.values()) if isinstance(argument, Mapping) else argument
        for argument in _arguments(sample)
    ]
    prompt = str(arguments[0][0])
    answers = sample["resps"]
    first = answers[0][0]
    if isinstance(first, str):
        return prompt, first
    if len(answers) == 1:
        return prompt, ""
    likeliest = max(range(len(answers)), key=lambda choice: answers[choice][0][0])
    return prompt, str(arguments[likeliest][1]).strip()


def _arguments(sample: Mapping[str, Any]) -> list[Any]:
    arguments = sample["arguments"]
    return list(arguments.values()) if isinstance(arguments, Mapping) else list(arguments)
