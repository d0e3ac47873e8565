"""A canvas of braille cells, 2 dots wide and 4 high, one colour a cell.

Dots are Booleans of shape (4 * rows, 2 * columns), row 0 at the top. Whole lines are drawn by array
operations, never point by point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mathrl_tui.core.curve import Array

Dots = NDArray[np.bool_]

_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint16)


def band(low: Array, high: Array, height: int) -> Dots:
    """Fill the dots between `low` and `high`.

    Args:
        low: (width,) heights in [0, 1]; NaN columns stay empty.
        high: (width,) heights in [0, 1].
        height: number of dot rows.
    Returns: (height, width) dots.
    """
    top, bottom = _rows(high, height), _rows(low, height)
    rows = np.arange(height)[:, None]
    return (rows >= top[None, :]) & (rows <= bottom[None, :])


def line(value: Array, height: int, broken: Dots | None = None) -> Dots:
    """Draw a connected line; columns without entries are interpolated.

    Args:
        value: (width,) heights in [0, 1]; NaN if unknown.
        broken: (width,) columns whose entries have no height; no line crosses them.
        height: number of dot rows.
    Returns: (height, width) dots.
    """
    known = np.flatnonzero(~np.isnan(value))
    if not len(known):
        return np.zeros((height, len(value)), dtype=np.bool_)
    inside = np.arange(known[0], known[-1] + 1)
    bridged = np.full(len(value), np.nan)
    bridged[inside] = np.interp(inside, known, value[known])
    if broken is not None:
        # Between two known columns there is no line at all if one of the columns between is broken.
        stretch = np.searchsorted(known, np.arange(len(value)), "right")
        cut = np.isin(stretch, stretch[broken & np.isnan(value)])
        bridged[cut & np.isnan(value)] = np.nan
    rows = _rows(bridged, height)
    top, bottom = rows.copy(), rows.copy()
    left, right = rows[inside[:-1]], rows[inside[1:]]
    middle = (left + right) // 2
    both = ~np.isnan(bridged[inside[:-1]]) & ~np.isnan(bridged[inside[1:]])
    down, up = both & (right > left + 1), both & (right < left - 1)
    bottom[inside[:-1]] = np.where(down, np.maximum(bottom[inside[:-1]], middle), bottom[inside[:-1]])
    top[inside[1:]] = np.where(down, np.minimum(top[inside[1:]], middle + 1), top[inside[1:]])
    top[inside[:-1]] = np.where(up, np.minimum(top[inside[:-1]], middle + 1), top[inside[:-1]])
    bottom[inside[1:]] = np.where(up, np.maximum(bottom[inside[1:]], middle), bottom[inside[1:]])
    index = np.arange(height)[:, None]
    return (index >= top[None, :]) & (index <= bottom[None, :])


def _rows(height_share: Array, height: int) -> NDArray[np.int64]:
    """Return dot rows of heights in [0, 1], clipped to the canvas.

    NaN maps below it.
    """
    clipped = np.clip(height_share, 0.0, 1.0)
    rows = np.where(np.isnan(clipped), float(height), np.round((1.0 - clipped) * (height - 1)))
    return rows.astype(np.int64)


def cells(dots: Dots) -> NDArray[np.uint16]:
    """Pack dots (4 * rows, 2 * columns) into braille bits (rows, columns)."""
    rows, columns = dots.shape[0] // 4, dots.shape[1] // 2
    blocks = dots.reshape(rows, 4, columns, 2).transpose(0, 2, 1, 3)
    bits: NDArray[np.uint16] = (blocks * _BITS).sum(axis=(2, 3), dtype=np.uint16)
    return bits
