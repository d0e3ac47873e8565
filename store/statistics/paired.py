"""The difference of two models on the same questions: its interval and its p-value.

The interval is the paired bootstrap's. Where all but fewer than 10 questions have the same difference, be it none, 0/1
outcomes get Tango's score interval instead: there the bootstrap covers as little as 86 % (4 of 1319 questions, nine to
one) or 70 % (b alone right on all but 1 of 120), and where all are alike it would claim certainty.
`store.statistics.coverage` measures both.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from store.statistics.bootstrap import percentile_interval, with_count
from store.statistics.interval import Interval, two_sided_z
from store.statistics.mcnemar import mcnemar_midp
from store.statistics.power import minimum_detectable_effect, minimum_detectable_mean
from store.statistics.resampling import RESAMPLES, Floats

FEW_UNLIKE = 10


def paired_interval(
    differences: ArrayLike, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Interval of the mean of `differences` (questions,), each b's score less a's on one question."""
    rows = np.asarray(differences, dtype=np.float64)
    a_only, b_only = int(np.sum(rows < 0)), int(np.sum(rows > 0))
    most = max(a_only, b_only, len(rows) - a_only - b_only)
    if _is_binary(rows) and len(rows) - most < FEW_UNLIKE:
        return tango_interval(a_only, b_only, len(rows), confidence)
    return percentile_interval(with_count(rows), confidence=confidence, resamples=resamples, seed=seed)


def paired_p_value(differences: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p-value of no difference: mid-p McNemar for 0/1 outcomes, a sign-flip permutation test otherwise."""
    rows = np.asarray(differences, dtype=np.float64)
    if _is_binary(rows):
        return mcnemar_midp(int(np.sum(rows < 0)), int(np.sum(rows > 0)))
    return sign_flip_p_value(rows, resamples, seed)


def paired_detectable_effect(differences: ArrayLike, confidence: float = 0.95) -> float:
    """The smallest true difference that these questions would show with 80 % power, given how the models disagree."""
    rows = np.asarray(differences, dtype=np.float64)
    if _is_binary(rows):
        return minimum_detectable_effect(float(np.mean(rows != 0)), len(rows), confidence)
    return minimum_detectable_mean(float(rows.std()), len(rows), confidence)


def tango_interval(a_only: int, b_only: int, questions: int, confidence: float = 0.95) -> Interval:
    """Score interval of the difference of two paired rates, from the questions that one model alone got right.

    Tango, T. (1998), Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design, Statistics in Medicine 17.
    """
    z = two_sided_z(confidence)
    estimate = (b_only - a_only) / questions
    low = _score_bound(a_only, b_only, questions, outside=-1.0, inside=estimate, target=z)
    high = _score_bound(a_only, b_only, questions, outside=1.0, inside=estimate, target=-z)
    return Interval(estimate, low, high, confidence)


def sign_flip_p_value(differences: Floats, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p-value of a mean difference of 0, by flipping the signs of `differences` (questions,) at random.

    The observed signs count as one flip, so the value is never 0: Phipson and Smyth (2010), Permutation p-values
    should never be zero. Differences that are no numbers (a model that has broken down) show nothing: 1.
    """
    rows = differences[differences != 0.0]
    generator = np.random.default_rng(seed)
    observed = abs(float(rows.sum())) * (1.0 - 1e-12)
    at_least = 0
    block = max(1, 2_000_000 // max(1, len(rows)))
    for start in range(0, resamples, block):
        shape = (min(block, resamples - start), len(rows))
        signs = generator.integers(0, 2, size=shape, dtype=np.int8) * 2.0 - 1.0
        at_least += int(np.count_nonzero(~(np.abs(signs @ rows) < observed)))
    return (at_least + 1) / (resamples + 1)


def _is_binary(differences: Floats) -> bool:
    return bool(np.all(np.isin(differences, (-1.0, 0.0, 1.0))))


def _score_bound(
    a_only: int, b_only: int, questions: int, *, outside: float, inside: float, target: float
) -> float:
    """The difference between `inside` and `outside` whose score statistic equals `target`, by bisection."""
    for _ in range(60):
        middle = (outside + inside) / 2.0
        if abs(_score(a_only, b_only, questions, middle)) < abs(target):
            inside = middle
        else:
            outside = middle
    return inside


def _score(a_only: int, b_only: int, questions: int, difference: float) -> float:
    """Tango's statistic: the estimate less `difference`, over its error under a true `difference`."""
    linear = (2 * questions - b_only + a_only) * difference - b_only - a_only
    constant = -a_only * difference * (1.0 - difference)
    root = math.sqrt(max(0.0, linear * linear - 8.0 * questions * constant))
    nuisance = (root - linear) / (4.0 * questions)  # constrained estimate of the rate of "a only"
    variance = questions * (2.0 * nuisance + difference * (1.0 - difference))
    distance = b_only - a_only - questions * difference
    return distance / math.sqrt(variance) if variance > 0.0 else math.copysign(math.inf, distance)
