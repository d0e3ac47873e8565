"""Comparison of arms over several seeds of one experiment.

Each run has its own training seed. The interval of one run covers other test questions only. The pooled
interval also covers other training seeds. Runs can be pooled if their seeds differ, and model and test
questions are the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from store.comparison import (
    NAMED_IDS,
    Address,
    Comparison,
    QuestionScores,
    TaskScores,
    arm_scores,
    corrected,
    evaluated,
    parse_address,
    refuse_unpaired,
)
from store.score_files import InputError
from store.statistics.interval import Interval
from store.statistics.paired import paired_detectable_effect, paired_interval, paired_p_value
from store.statistics.power import DEFAULT_POWER
from store.statistics.resampling import Floats
from store.statistics.seeds import pool_seeds
from store.statistics.student import t_quantile

if TYPE_CHECKING:
    from store.query import Store

log = logging.getLogger(__name__)


def compare_pooled(
    store: Store, a: str, b: str, runs: Sequence[str], confidence: float = 0.95
) -> list[Comparison]:
    """Compare two arms, pooled over several runs, as one Holm family.

    Rates are means over the runs. `a_only` and `b_only` count questions on which the mean of one arm is
    higher.

    Args:
        a: first arm, RUN/ARM.
        b: second arm of the same run.
        runs: other runs of the same experiment.
        confidence: coverage of the intervals, a fraction.
    Raises: InputError if the runs do not belong together.
    """
    first, second = parse_address(a), parse_address(b)
    if store.resolve(first.run) != store.resolve(second.run):
        raise InputError(
            f"{a} and {b}: pooling compares two arms of one run, seed by seed; give arms of the same run"
        )
    pooled = list(dict.fromkeys(store.resolve(run) for run in (first.run, *runs)))
    if len(pooled) < 2:
        raise InputError(f"{a}: pooling needs at least one other run; add one with another seed")
    _refuse_other_experiments(store, pooled)
    _warn_of_perplexities(store, (first, second))
    _refuse_other_questions(store, [replace(first, run=run) for run in pooled])
    sides = [[arm_scores(store, replace(arm, run=run)) for run in pooled] for arm in (first, second)]
    found = corrected(_compared(sides[0], sides[1], (a, b), pooled, confidence))
    if not found:
        raise InputError(
            f"{a} and {b}: no task that all of {', '.join(pooled)} share; evaluate one in each run"
        )
    return found


def pooled_comparisons(store: Store, runs: Sequence[str]) -> list[Comparison]:
    """Compare each pair of arms that all `runs` have evaluated.

    Each shared task is compared. Pairs follow the profile's order. Confidence is that of the first run. All
    comparisons are one Holm family.

    Raises: InputError if the runs do not belong together, or share no evaluated pair of arms.
    """
    pooled = list(dict.fromkeys(store.resolve(run) for run in runs))
    if len(pooled) < 2:
        raise InputError("pooling needs at least two runs with different seeds; add another")
    _refuse_other_experiments(store, pooled)
    config = store.config(pooled[0])
    known = [{row.arm for row in store.evaluations(run)} for run in pooled]
    names = [arm for arm in config.arms if all(arm in arms for arms in known)]
    if len(names) < 2:
        raise InputError(f"{', '.join(pooled)}: no two arms that all of them have evaluated; run stage eval")
    _warn_of_perplexities(store, [Address(pooled[0], name) for name in names])
    scores = {name: [arm_scores(store, Address(run, name)) for run in pooled] for name in names}
    _warn_of_missing_tasks(scores)
    _refuse_other_questions(store, [Address(run, names[0]) for run in pooled])
    return corrected(
        row
        for a, b in combinations(names, 2)
        for row in _compared(scores[a], scores[b], (a, b), pooled, config.evaluation["confidence"])
    )


def _compared(
    a: Sequence[TaskScores],
    b: Sequence[TaskScores],
    labels: tuple[str, str],
    runs: Sequence[str],
    confidence: float,
) -> Iterator[Comparison]:
    """Yield one comparison for each task that all runs have of both arms.

    `a` and `b` hold one entry for each run.
    """
    for task in a[0]:
        if all(task in scores for scores in (*a, *b)):
            yield _pooled(task, [run[task] for run in a], [run[task] for run in b], labels, runs, confidence)


def _pooled(
    task: str,
    a: Sequence[QuestionScores],
    b: Sequence[QuestionScores],
    labels: tuple[str, str],
    runs: Sequence[str],
    confidence: float,
) -> Comparison:
    for side in (a, b):
        for run, scores in zip(runs, side, strict=True):
            refuse_unpaired(task, a[0], scores, (runs[0], run))
    questions = list(a[0])
    # Both are (seeds, questions).
    a_scores = np.array([[run[question] for question in questions] for run in a])
    b_scores = np.array([[run[question] for question in questions] for run in b])
    if len(questions) < 2:
        raise InputError(f"task {task}: only one question; pooling needs at least two")
    differences = b_scores - a_scores
    by_question = differences.mean(axis=0)
    estimate = _estimate(differences, confidence)
    return Comparison(
        task=task,
        n=len(questions),
        a=labels[0],
        b=labels[1],
        a_rate=float(a_scores.mean()),
        b_rate=float(b_scores.mean()),
        difference=estimate.interval.estimate,
        # A difference of two rates is at most 1.
        ci_low=max(-1.0, estimate.interval.low),
        ci_high=min(1.0, estimate.interval.high),
        confidence=confidence,
        p_value=estimate.p_value,
        p_value_holm=estimate.p_value,
        minimum_detectable_effect=min(1.0, estimate.detectable),
        a_only=int(np.sum(by_question < 0)),
        b_only=int(np.sum(by_question > 0)),
    )


class _Estimate(NamedTuple):
    interval: Interval
    p_value: float
    detectable: float


def _estimate(differences: Floats, confidence: float) -> _Estimate:
    """Estimate the mean of `differences` (seeds, questions).

    If all differences are equal the variance components are zero, which is not certainty.
    The questions are then treated as those of one run, which has a score interval of nonzero width.
    """
    pooled = pool_seeds(differences, confidence)
    if pooled.standard_error > 0.0:
        reach = t_quantile((1 + confidence) / 2, pooled.degrees_of_freedom)
        detectable = (reach + NormalDist().inv_cdf(DEFAULT_POWER)) * pooled.standard_error
        return _Estimate(pooled.interval, pooled.p_value, detectable)
    alike = differences.mean(axis=0)
    return _Estimate(
        paired_interval(alike, confidence),
        paired_p_value(alike),
        paired_detectable_effect(alike, confidence),
    )


def _refuse_other_experiments(store: Store, runs: Sequence[str]) -> None:
    """Raise InputError if the runs cannot be pooled.

    That is so if two have the same seed, or if their models differ. Other settings that differ cause a
    warning.
    """
    configs = [store.config(run) for run in runs]
    seeds: dict[int, str] = {}
    for run, config in zip(runs, configs, strict=True):
        if (other := seeds.setdefault(config.seed, run)) != run:
            raise InputError(
                f"runs {other} and {run}: both have seed {config.seed}; pool runs of different seeds"
            )
    first = configs[0]
    for run, config in zip(runs[1:], configs[1:], strict=True):
        models = first.model_source, config.model_source
        if models[0] != models[1]:
            raise InputError(
                f"runs {runs[0]} and {run}: their models differ ({models[0]}, {models[1]}); pool runs of one model"
            )
        _warn_of_differences((runs[0], run), list(_differing(first.profile, config.profile)))


def _warn_of_differences(runs: tuple[str, str], differing: Sequence[str]) -> None:
    if differing:
        rest = f" and {len(differing) - NAMED_IDS} more" if len(differing) > NAMED_IDS else ""
        named = ", ".join(differing[:NAMED_IDS])
        log.warning("runs %s and %s are pooled, but differ in %s%s", *runs, named, rest)


def _differing(a: Any, b: Any, key: str = "") -> Iterator[str]:
    """Yield the settings that affect a result and differ in two profiles.

    Hardware settings do not affect a result.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        for name in dict.fromkeys([*a, *b]):
            if key or name not in ("name", "description", "hardware"):
                yield from _differing(a.get(name), b.get(name), f"{key}.{name}" if key else str(name))
    elif a != b:
        yield key


def _warn_of_perplexities(store: Store, arms: Sequence[Address]) -> None:
    measured = [row for arm in arms for row in evaluated(store, arm) if row.measure == "perplexity"]
    if measured:
        tasks = ", ".join(dict.fromkeys(row.task for row in measured))
        log.warning("%s: perplexities are not pooled; `compare` without --pool has each run's own", tasks)


def _warn_of_missing_tasks(scores: Mapping[str, Sequence[TaskScores]]) -> None:
    """Warn of tasks that some run has not evaluated for some arm.

    Fewer pairs, or none, include such tasks.
    """
    everything = [tasks for arm in scores.values() for tasks in arm]
    missing = [
        task
        for task in dict.fromkeys(task for tasks in everything for task in tasks)
        if not all(task in tasks for tasks in everything)
    ]
    if missing:
        log.warning("%s: not evaluated for every arm of every run, so not pooled there", ", ".join(missing))


def _refuse_other_questions(store: Store, addresses: Sequence[Address]) -> None:
    """Raise InputError if two different questions share one id.

    The runs then have different `data.seed` values, or an older version made one of them.
    """
    asked: dict[tuple[str, str], tuple[str, str]] = {}
    for address in addresses:
        for task, ex_id, prompt in store.questions(address.run, address.arm, address.step):
            run, before = asked.setdefault((task, ex_id), (address.run, prompt))
            if before != prompt:
                raise InputError(
                    f"runs {run} and {address.run}: id {ex_id} of task {task} is a different question in each; "
                    "pool runs with the same data.seed and the same test questions"
                )
