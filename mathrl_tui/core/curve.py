"""One metric's history in memory: points or buckets in step order, smoothing, and reduction to a canvas's columns.

The store reduces a long series to buckets in SQL; the live tail adds single points behind them. A curve never holds
more than LONGEST entries: beyond that, neighbours are merged, keeping each pair's extremes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LONGEST = 4000

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric's entries, all arrays of shape (entries,): step, mean, extremes, and time in Unix seconds.

    Times of history are NaN until somebody wants them: the store takes a fifth longer to read them.
    """

    step: Array
    mean: Array
    low: Array
    high: Array
    ts: Array

    @classmethod
    def of(cls, step: Sequence[float], value: Sequence[float], ts: Sequence[float]) -> Curve:
        """A curve of single points."""
        values = np.asarray(value, dtype=np.float64)
        return cls(
            np.asarray(step, dtype=np.float64), values, values, values, np.asarray(ts, dtype=np.float64)
        )

    def __len__(self) -> int:
        return len(self.step)

    @property
    def is_timed(self) -> bool:
        """Whether every entry's time is known."""
        return not np.isnan(self.ts).any()

    def extended(self, step: Sequence[float], value: Sequence[float], ts: Sequence[float]) -> Curve:
        """With the points whose step lies behind the last one; a repeated step (after a resume) is left out."""
        new = Curve.of(step, value, ts)
        if len(self):
            new = new._where(new.step > self.step[-1])
        if not len(new):
            return self
        return self._joined(new)._bounded()

    def _where(self, keep: NDArray[np.bool_]) -> Curve:
        return Curve(self.step[keep], self.mean[keep], self.low[keep], self.high[keep], self.ts[keep])

    def _joined(self, other: Curve) -> Curve:
        return Curve(
            np.concatenate((self.step, other.step)),
            np.concatenate((self.mean, other.mean)),
            np.concatenate((self.low, other.low)),
            np.concatenate((self.high, other.high)),
            np.concatenate((self.ts, other.ts)),
        )

    def _bounded(self) -> Curve:
        """Every two neighbours merged while there are more than LONGEST; the last entry stays as it is."""
        if len(self) <= LONGEST:
            return self
        even = (len(self) - 1) // 2 * 2
        pairs = Curve(
            self.step[1:even:2],
            self.mean[:even].reshape(-1, 2).mean(axis=1),
            self.low[:even].reshape(-1, 2).min(axis=1),
            self.high[:even].reshape(-1, 2).max(axis=1),
            self.ts[1:even:2],
        )
        rest = Curve(self.step[even:], self.mean[even:], self.low[even:], self.high[even:], self.ts[even:])
        return pairs._joined(rest)


EMPTY = Curve.of((), (), ())


def smoothed(step: Array, value: Array, memory: float) -> Array:
    """Exponential moving average of `value` (entries,), each entry weighted by exp(-distance in steps / memory).

    It is debiased (the weights are normalised, so the first value is itself) and counts memory in steps rather than
    entries, so that a reduced series is smoothed like the whole one. NaNs are passed over; memory 0 changes nothing.
    """
    if memory <= 0 or len(value) == 0:
        return value
    decay = np.exp(-np.diff(step, prepend=step[0]) / memory)
    result = np.empty_like(value)
    total = weight = 0.0
    last = float("nan")
    for index, (fade, entry) in enumerate(zip(decay.tolist(), value.tolist(), strict=True)):
        total, weight = total * fade, weight * fade
        if entry == entry:
            total, weight = total + entry, weight + 1.0
            last = total / weight
        result[index] = last
    return result


def cumulative(curve: Curve) -> Array:
    """Running total by entry, shape (entries,), of a quantity that each step reports once (its tokens, say).

    A bucket's mean counts for every step since the entry before it.
    """
    if not len(curve):
        return curve.step
    steps = np.diff(curve.step, prepend=curve.step[0] - 1)
    return np.cumsum(curve.mean * steps)


def columns(x: Array, low: Array, high: Array, start: float, end: float, width: int) -> tuple[Array, Array]:
    """Least `low` and greatest `high` of the entries that fall into each of `width` columns over [start, end].

    `x` is ascending, shape (entries,). Gives two arrays of shape (width,), NaN where a column holds no entry.
    """
    least, most = np.full(width, np.nan), np.full(width, np.nan)
    first, last = np.searchsorted(x, start, "left"), np.searchsorted(x, end, "right")
    if first >= last or end <= start:
        return least, most
    column = ((x[first:last] - start) / (end - start) * (width - 1) + 0.5).astype(np.int64)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    least[column[starts]] = np.fmin.reduceat(low[first:last], starts)
    most[column[starts]] = np.fmax.reduceat(high[first:last], starts)
    return least, most
