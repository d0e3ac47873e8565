"""Two arms compared over several runs of one experiment, a run a training seed: the interval holds both variances.

One run's interval says how far other questions would have moved the difference; how far another training seed would
have moved it only several runs can say.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from store.comparison import (
    Address,
    Comparison,
    arm_scores,
    corrected,
    evaluated,
    parse_address,
    refuse_unpaired,
)
from store.score_files import InputError
from store.statistics.power import DEFAULT_POWER
from store.statistics.seeds import pool_seeds
from store.statistics.student import t_quantile

if TYPE_CHECKING:
    from store.query import Store

log = logging.getLogger(__name__)

Scores = Mapping[str, float]  # question id → score


def compare_pooled(
    store: Store, a: str, b: str, runs: Sequence[str], confidence: float = 0.95
) -> list[Comparison]:
    """The arms `a` and `b` of one run, pooled with the same arms of `runs`, task by task; Holm over the tasks.

    Rates are means over the runs; a_only and b_only count the questions on which one arm's mean is the higher.
    """
    first, second = parse_address(a), parse_address(b)
    if store.resolve(first.run) != store.resolve(second.run):
        raise InputError(
            f"{a} and {b}: pooling compares two arms of one run, seed by seed; give arms of the same run"
        )
    pooled = list(dict.fromkeys(store.resolve(run) for run in (first.run, *runs)))
    if len(pooled) < 2:
        raise InputError(f"{a}: pooling needs another run besides its own; name one of another seed")
    a_runs = [arm_scores(store, replace(first, run=run)) for run in pooled]
    b_runs = [arm_scores(store, replace(second, run=run)) for run in pooled]
    _refuse_other_questions(store, [replace(first, run=run) for run in pooled])
    _say_what_is_left_out(store, (first, second))
    tasks = [task for task in a_runs[0] if all(task in scores for scores in (*a_runs, *b_runs))]
    if not tasks:
        raise InputError(f"{a} and {b}: no task that all of {', '.join(pooled)} share")
    return corrected(
        _pooled(
            task,
            [run[task] for run in a_runs],
            [run[task] for run in b_runs],
            (a, b),
            pooled,
            confidence,
        )
        for task in tasks
    )


def _say_what_is_left_out(store: Store, arms: Sequence[Address]) -> None:
    measured = [row for arm in arms for row in evaluated(store, arm) if row.measure == "perplexity"]
    if measured:
        tasks = ", ".join(dict.fromkeys(row.task for row in measured))
        log.warning("%s: perplexities are not pooled; `compare` without --pool has each run's own", tasks)


def _pooled(
    task: str,
    a: Sequence[Scores],
    b: Sequence[Scores],
    labels: tuple[str, str],
    runs: Sequence[str],
    confidence: float,
) -> Comparison:
    for side in (a, b):
        for run, scores in zip(runs, side, strict=True):
            refuse_unpaired(task, a[0], scores, (runs[0], run))
    questions = list(a[0])
    a_scores = np.array([[run[question] for question in questions] for run in a])  # (seeds, questions)
    b_scores = np.array([[run[question] for question in questions] for run in b])
    differences = b_scores - a_scores
    pooled = pool_seeds(differences, confidence)
    reach = t_quantile((1 + confidence) / 2, pooled.degrees_of_freedom) + NormalDist().inv_cdf(DEFAULT_POWER)
    by_question = differences.mean(axis=0)
    return Comparison(
        task=task,
        n=len(questions),
        a=labels[0],
        b=labels[1],
        a_rate=float(a_scores.mean()),
        b_rate=float(b_scores.mean()),
        difference=pooled.interval.estimate,
        ci_low=pooled.interval.low,
        ci_high=pooled.interval.high,
        confidence=confidence,
        p_value=pooled.p_value,
        p_value_holm=pooled.p_value,
        minimum_detectable_effect=min(1.0, reach * pooled.standard_error),
        a_only=int(np.sum(by_question < 0)),
        b_only=int(np.sum(by_question > 0)),
    )


def _refuse_other_questions(store: Store, addresses: Sequence[Address]) -> None:
    """Raise InputError if one id names two questions: runs with another `data.seed`, or of an older version."""
    asked: dict[tuple[str, str], tuple[str, str]] = {}
    for address in addresses:
        for row in store.examples(address.run, address.arm, step=address.step, limit=None):
            if row.task in ("train", "validation"):
                continue
            run, prompt = asked.setdefault((row.task, row.ex_id), (address.run, row.prompt))
            if prompt != row.prompt:
                raise InputError(
                    f"runs {run} and {address.run}: id {row.ex_id} of task {row.task} is another question in each; "
                    "pool runs with the same data.seed and the same test questions"
                )
