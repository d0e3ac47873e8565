"""One metric of several runs as one curve: the mean of all of them, over the range of those that got so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mathrl_tui.core.curve import Array, Curve, smoothed


def far(curves: Sequence[Curve]) -> list[Curve]:
    """Those that came at least half as far as the furthest: a run that died early, or has just begun, is left out."""
    furthest = max(float(one.step[-1]) for one in curves)
    return [one for one in curves if one.step[-1] >= furthest / 2]


def together(curves: Sequence[Curve], memory: float) -> Curve:
    """The runs' curves, none of them empty, as one; each is smoothed before they are joined.

    `mean` is over the runs that came `far`, and NaN where not all of these have a value: a mean over fewer would jump
    where a run joins or ends. `low` and `high` are the least and the greatest value of all runs that are there.
    Between a run's own steps its value is interpolated. `ts` is the mean time since each run's first point, seconds,
    or NaN where a run's times are not known.
    """
    step = np.unique(np.concatenate([one.step for one in curves]))
    heights = np.stack([_at(step, one, smoothed(one.step, one.mean, memory)) for one in curves])
    elapsed = [_at(step, one, one.ts - one.ts[0]) for one in curves if one.is_timed]
    leading = far(curves)
    counted = np.array([any(one is other for other in leading) for one in curves])
    return Curve(
        step,
        heights[counted].mean(axis=0),
        np.fmin.reduce(heights, axis=0),
        np.fmax.reduce(heights, axis=0),
        np.nanmean(elapsed, axis=0) if len(elapsed) == len(curves) else np.full_like(step, np.nan),
    )


def typical(curves: Sequence[Curve]) -> Curve:
    """Like `together`, with the mean of whichever runs are there: to place entries on an axis of tokens."""
    joined = together(curves, 0.0)
    step = joined.step
    return replace(joined, mean=np.nanmean(np.stack([_at(step, one, one.mean) for one in curves]), axis=0))


def _at(step: Array, curve: Curve, value: Array) -> Array:
    """`value` (entries,) of a curve at the steps `step` (steps,), NaN before its first and after its last entry."""
    return np.interp(step, curve.step, value, left=np.nan, right=np.nan)
