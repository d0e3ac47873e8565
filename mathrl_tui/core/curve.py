"""The history of one metric: entries, smoothing, reduction to columns.

Entries are in step order. The store reduces a long series to buckets in SQL; the live tail appends single
points. A curve holds at most LONGEST entries. Beyond that, neighbours are merged and keep their extremes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.results import Series

LONGEST = 4000
# Smoothing counts steps in a short series, and such parts of the whole in a longer one.
_PARTS = 1000
# Entries that are smoothed at once; their arrays fit into a processor's cache.
_PART = 1 << 16

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """Entries of a metric; all arrays are (entries,).

    They are step, mean, lowest, highest, and time in Unix seconds; then the number of NaNs and of infinities.
    Mean, lowest and highest are those of the finite values, or NaN without one: a gap.
    Times of history are NaN until requested, because the store takes a fifth longer to read them.
    """

    step: Array
    mean: Array
    low: Array
    high: Array
    ts: Array
    nans: Array
    infs: Array

    @classmethod
    def of(cls, step: Sequence[float], value: Sequence[float], ts: Sequence[float]) -> Curve:
        """Return a curve of single points.

        Args:
            step: (entries,) ascending.
            value: (entries,); values that are not finite become gaps.
            ts: (entries,) Unix seconds.
        """
        raw = np.asarray(value, dtype=np.float64)
        nans, infs = np.isnan(raw).astype(np.float64), np.isinf(raw).astype(np.float64)
        finite = np.where(np.isfinite(raw), raw, np.nan)
        steps, times = np.asarray(step, dtype=np.float64), np.asarray(ts, dtype=np.float64)
        return cls(steps, finite, finite, finite, times, nans, infs)

    @classmethod
    def of_series(cls, series: Series) -> Curve:
        """Return the curve of a stored history."""
        return cls(series.step, series.mean, series.low, series.high, series.ts, series.nans, series.infs)

    def __len__(self) -> int:
        return len(self.step)

    @property
    def is_timed(self) -> bool:
        """Return True if the time of each entry is known."""
        return not np.isnan(self.ts).any()

    def extended(self, step: Sequence[float], value: Sequence[float], ts: Sequence[float]) -> Curve:
        """Return the curve with the points after its last step appended.

        Repeated steps, after a resume, are dropped. Beyond LONGEST entries, neighbours are merged.
        """
        return self.followed(Curve.of(step, value, ts))

    def followed(self, new: Curve) -> Curve:
        """Return the curve with the entries of `new` after its last step."""
        if len(self):
            new = new._where(new.step > self.step[-1])
        if not len(new):
            return self
        return self._joined(new)._bounded()

    def spliced(self, detail: Curve) -> Curve:
        """Replace the entries in the range of `detail` by its own."""
        if not len(detail):
            return self
        before, after = self._where(self.step < detail.step[0]), self._where(self.step > detail.step[-1])
        return before._joined(detail)._joined(after)

    def _where(self, keep: NDArray[np.bool_]) -> Curve:
        return Curve(*(column[keep] for column in self._columns()))

    def _columns(self) -> tuple[Array, ...]:
        return self.step, self.mean, self.low, self.high, self.ts, self.nans, self.infs

    def _joined(self, other: Curve) -> Curve:
        pairs = zip(self._columns(), other._columns(), strict=True)
        return Curve(*(np.concatenate(pair) for pair in pairs))

    def _bounded(self) -> Curve:
        """Merge pairs of neighbours if there are more than LONGEST entries.

        The last entry is kept.
        """
        if len(self) <= LONGEST:
            return self
        even = (len(self) - 1) // 2 * 2
        first, second = self.mean[:even:2], self.mean[1:even:2]
        # A gap next to a value does not hide it.
        first, second = np.where(np.isnan(first), second, first), np.where(np.isnan(second), first, second)
        pairs = Curve(
            self.step[1:even:2],
            (first + second) / 2,
            np.fmin(self.low[:even:2], self.low[1:even:2]),
            np.fmax(self.high[:even:2], self.high[1:even:2]),
            self.ts[1:even:2],
            self.nans[:even:2] + self.nans[1:even:2],
            self.infs[:even:2] + self.infs[1:even:2],
        )
        return pairs._joined(Curve(*(column[even:] for column in self._columns())))


EMPTY = Curve.of((), (), ())


def memory_of(weight: float, steps: float) -> float:
    """Return the memory, in steps, of an exponential average.

    The average keeps `weight` of itself at each step.
    Beyond 1000 `steps` the weight applies to about a thousandth of them, so that it smooths long series alike.
    That distance is a power of two, so that it rarely changes while a run grows.
    """
    if weight <= 0:
        return 0.0
    distance = 2.0 ** max(math.ceil(math.log2(max(steps, 1.0) / _PARTS)), 0)
    return -distance / math.log(weight)


def smoothed(step: Array, value: Array, memory: float) -> Array:
    """Smooth with an exponential moving average.

    Weights are exp(−distance in steps / memory), normalised, so the first value is unchanged. Memory counts
    steps, not entries, so a reduced series is smoothed like the full one. Values that are not finite are
    skipped: they leave a gap.

    Args:
        step: (entries,) ascending steps.
        value: (entries,) values.
        memory: steps; 0 returns `value`.
    Returns: (entries,) smoothed values, NaN at entries that are not finite.
    """
    if memory <= 0 or len(value) == 0:
        return value
    known = np.isfinite(value)
    decay = np.exp(np.diff(step, prepend=step[0]) / -memory)
    entries = np.where(known, value, 0.0)
    average = np.empty(len(value))
    carried = (0.0, 0.0)
    for start in range(0, len(value), _PART):
        part = slice(start, start + _PART)
        average[part], carried = _averages(entries[part], known[part], decay[part], carried)
    if known.all():
        return average
    gapped: Array = np.where(known, average, np.nan)
    return gapped


def _averages(
    value: Array, known: NDArray[np.bool_], decay: Array, carried: tuple[float, float]
) -> tuple[Array, tuple[float, float]]:
    """Continue the average over the next part of a series.

    The recurrence runs over the places of a block, for all blocks at once. The sums at a block's end are then
    carried into the next one.

    Args:
        carried: the weighted sum of values, and the sum of weights, at the last entry before.
    Returns: (entries,) averages, NaN if no value is known; the sums at the last entry.
    """
    places = max(round(len(value) ** 0.5), 1)
    fade = _by_place(decay, places, 1.0)
    blocks = fade.shape[1]
    # (places, 2, blocks): the weighted sum of the values, and the sum of the weights.
    sums = np.stack((_by_place(value, places, 0.0), _by_place(known, places, 0.0)), axis=1)
    # The fraction of the previous block's sums that is left at each place.
    left = fade.copy()
    for place in range(1, places):
        sums[place] += sums[place - 1] * fade[place]
        left[place] *= left[place - 1]
    total, weight = carried
    before: list[tuple[float, float]] = []
    for lasting, *last in zip(left[-1].tolist(), *sums[-1].tolist(), strict=True):
        before.append((total, weight))
        total, weight = last[0] + total * lasting, last[1] + weight * lasting
    sums += np.array(before).T * left[:, None, :]
    weights = np.where(sums[:, 1] > 0, sums[:, 1], np.nan)
    average: Array = (sums[:, 0] / weights).T.reshape(places * blocks)[: len(value)]
    return average, (total, weight)


def _by_place(value: NDArray[Any], places: int, filler: float) -> Array:
    """Cut entries into blocks of `places`.

    Returns: (places, blocks), with `filler` after the last entry.
    """
    blocks = -(-len(value) // places)
    padded = np.full(blocks * places, filler)
    padded[: len(value)] = value
    return np.ascontiguousarray(padded.reshape(blocks, places).T)


def cumulative(curve: Curve) -> Array:
    """Return the running total of a quantity that each step reports once.

    An example is the tokens of a step. The mean of a bucket counts for each step since the previous entry.

    Returns: (entries,) totals.
    """
    if not len(curve):
        return curve.step
    steps = np.diff(curve.step, prepend=curve.step[0] - 1)
    return np.cumsum(np.nan_to_num(curve.mean) * steps)


def columns(x: Array, low: Array, high: Array, start: float, end: float, width: int) -> tuple[Array, Array]:
    """Reduce entries to the lowest `low` and highest `high` in each column.

    Args:
        x: (entries,) ascending positions.
        low: (entries,) values.
        high: (entries,) values.
        start: position of the first column.
        end: position of the last column.
        width: number of columns.
    Returns: two arrays (width,), NaN for a column without entries.
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
