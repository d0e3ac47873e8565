"""Seeded bootstrap intervals: percentile and BCa.

An interval can be computed for any quantity that is a function of column sums.
BCa has no advantage for rates between .05 and .95. It is for skewed quantities, such as lengths and perplexities.
Source: Efron and Tibshirani (1993), An introduction to the bootstrap, chapters 13 and 14.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from store.statistics.interval import Interval
from store.statistics.resampling import RESAMPLES, Floats, resampled_sums

# (draws, quantities) -> (draws,)
OfSums = Callable[[Floats], Floats]


def ratio(sums: Floats) -> Floats:
    """Divide the first column of `sums` by the second.

    If the second column counts rows, the result is a mean.

    Args:
        sums: (draws, 2) column sums.
    Returns: (draws,) ratios.
    """
    return np.asarray(sums[:, 0] / sums[:, 1])


def with_count(values: ArrayLike) -> Floats:
    """Append a column of ones, so that `ratio` computes the mean of `values`.

    Args:
        values: (rows,) numbers.
    Returns: (rows, 2) columns.
    """
    column = np.asarray(values, dtype=np.float64)
    return np.column_stack([column, np.ones_like(column)])


def percentile_interval(
    columns: Floats, of: OfSums = ratio, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Compute the percentile interval of a function of column sums.

    Args:
        columns: (rows, quantities) data to resample by row.
        of: function from (draws, quantities) sums to (draws,) values.
    Raises: ValueError if `columns` has no rows.
    """
    draws = of(resampled_sums(columns, resamples, seed))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return Interval(_estimate(columns, of), float(low), float(high), confidence)


def bca_interval(
    columns: Floats, of: OfSums = ratio, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Compute the BCa interval of a function of column sums.

    BCa is bias-corrected and accelerated.

    Args:
        columns: (rows, quantities) data to resample by row.
        of: function from (draws, quantities) sums to (draws,) values.
    Raises: ValueError if `columns` is empty, or if every resample lies on one side of the estimate.
    """
    draws = of(resampled_sums(columns, resamples, seed))
    estimate = _estimate(columns, of)
    below = float(np.mean(draws < estimate) + np.mean(draws == estimate) / 2.0)
    if below in (0.0, 1.0) or np.ptp(draws) == 0.0:
        raise ValueError("every resample lies on one side of the estimate; BCa is not defined for these rows")
    normal = NormalDist()
    bias, acceleration = normal.inv_cdf(below), _acceleration(columns, of)
    tail = (1.0 - confidence) / 2.0
    levels = []
    for share in (tail, 1.0 - tail):
        shifted = bias + normal.inv_cdf(share)
        levels.append(normal.cdf(bias + shifted / (1.0 - acceleration * shifted)))
    low, high = np.quantile(draws, levels)
    return Interval(estimate, float(low), float(high), confidence)


def _estimate(columns: Floats, of: OfSums) -> float:
    return float(of(columns.sum(axis=0, keepdims=True))[0])


def _acceleration(columns: Floats, of: OfSums) -> float:
    """Return one sixth of the jackknife's skewness.

    Returns: 0 if leaving out rows changes nothing.
    """
    left_out = of(columns.sum(axis=0) - columns)
    spread = left_out.mean() - left_out
    variance = float(np.sum(spread**2))
    return float(np.sum(spread**3)) / (6.0 * variance**1.5) if variance > 0.0 else 0.0
