"""Resampled column sums, of which every bootstrap here is made: means, ratios and perplexities are functions of sums.

Two ways give the same distribution. Where distinct rows are few (a 0/1 difference is -1, 0 or +1) a resample is one
multinomial draw over their counts, milliseconds for 10,000 resamples; otherwise rows are drawn by index.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 10_000
FEW_ROWS = 33  # distinct rows up to which the multinomial is the faster way
INDICES_AT_A_TIME = 2_000_000  # bounds memory


def resampled_sums(columns: Floats, resamples: int, seed: int) -> Floats:
    """Sums of `columns` (rows, quantities) over `resamples` draws of as many rows with replacement.

    Returns (resamples, quantities).
    """
    if len(columns) == 0:
        raise ValueError("no rows to resample")
    distinct, counts = np.unique(columns, axis=0, return_counts=True)
    if len(distinct) <= FEW_ROWS:
        return _sums_by_count(distinct, counts, resamples, seed)
    return _sums_by_index(columns, resamples, seed)


def _sums_by_count(distinct: Floats, counts: NDArray[np.intp], resamples: int, seed: int) -> Floats:
    rows = int(counts.sum())
    draws = np.random.default_rng(seed).multinomial(rows, counts / rows, size=resamples)
    return np.asarray(draws @ distinct, dtype=np.float64)


def _sums_by_index(columns: Floats, resamples: int, seed: int) -> Floats:
    generator = np.random.default_rng(seed)
    rows, quantities = columns.shape
    sums = np.empty((resamples, quantities))
    block = max(1, INDICES_AT_A_TIME // rows)
    for start in range(0, resamples, block):
        drawn = generator.integers(rows, size=(min(block, resamples - start), rows))
        for quantity in range(quantities):
            sums[start : start + block, quantity] = columns[drawn, quantity].sum(axis=1)
    return sums
