"""Pooling over training seeds.

The interval includes the variance between training runs. Each seed answers the same questions. So differences
form a crossed design, seeds by questions, both random: Var(mean) = (MS_seeds + MS_questions - MS_rest) /
(seeds x questions), with Satterthwaite's degrees of freedom.
Source: Searle, Casella and McCulloch (1992), Variance components, chapter 4. It is the analysis of
multi-reader studies (Gallas et al. 2009) with seeds as readers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from store.statistics.interval import Interval
from store.statistics.student import t_cdf, t_quantile


@dataclass(frozen=True, slots=True)
class Pooled:
    """Mean difference over seeds and questions, in the unit of the scores.

    Attributes:
        p_value: two-sided, of a mean difference of zero.
        between_seeds: standard deviation of the true differences between seeds, in the same unit.
        standard_error: of the mean difference, in the same unit.
        degrees_of_freedom: of Student's t for interval and p-value.
    """

    interval: Interval
    p_value: float
    # Standard deviation of the true difference between training seeds.
    between_seeds: float
    seeds: int
    standard_error: float
    degrees_of_freedom: float


def pool_seeds(differences: ArrayLike, confidence: float = 0.95) -> Pooled:
    """Compute the mean difference over seeds and questions.

    Its interval includes the variance between seeds and between questions.

    Args:
        differences: (seeds, questions) score of b less score of a.
    Raises: ValueError with fewer than two seeds or two questions; one seed has no between-seed variance.
    """
    rows = np.asarray(differences, dtype=np.float64)
    seeds, questions = rows.shape
    if seeds < 2 or questions < 2:
        raise ValueError(f"pooling needs two seeds and two questions at least, got {seeds} and {questions}")
    mean = float(rows.mean())
    by_seed, by_question = rows.mean(axis=1), rows.mean(axis=0)
    rest = rows - by_seed[:, None] - by_question[None, :] + mean
    ms_seeds = questions * float(by_seed.var(ddof=1))
    ms_questions = seeds * float(by_question.var(ddof=1))
    ms_rest = float(np.sum(rest**2)) / ((seeds - 1) * (questions - 1))
    variance, freedom = _variance_of_mean(ms_seeds, ms_questions, ms_rest, seeds, questions)
    half = t_quantile((1.0 + confidence) / 2.0, freedom) * math.sqrt(variance)
    return Pooled(
        interval=Interval(mean, mean - half, mean + half, confidence),
        p_value=_p_value(mean, variance, freedom),
        between_seeds=math.sqrt(max(0.0, (ms_seeds - ms_rest) / questions)),
        seeds=seeds,
        standard_error=math.sqrt(variance),
        degrees_of_freedom=freedom,
    )


def _variance_of_mean(
    ms_seeds: float, ms_questions: float, ms_rest: float, seeds: int, questions: int
) -> tuple[float, float]:
    """Return variance and degrees of freedom of the grand mean.

    A negative component counts as 0.
    """
    of_seeds, of_questions = max(ms_seeds, ms_rest), max(ms_questions, ms_rest)
    total = of_seeds + of_questions - ms_rest
    spent = of_seeds**2 / (seeds - 1) + of_questions**2 / (questions - 1)
    spent += ms_rest**2 / ((seeds - 1) * (questions - 1))
    freedom = total**2 / spent if spent > 0.0 else float(questions - 1)
    return total / (seeds * questions), max(1.0, freedom)


def _p_value(mean: float, variance: float, freedom: float) -> float:
    if variance == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    # The lower tail keeps its relative precision when the p-value is tiny.
    return 2.0 * t_cdf(-abs(mean) / math.sqrt(variance), freedom)
