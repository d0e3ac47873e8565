"""One metric of several runs as one curve: their mean, and their range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mathrl_tui.core.curve import Array, Curve, smoothed


def long_enough(curves: Sequence[Curve]) -> list[Curve]:
    """Return the curves that reach at least half as far as the furthest.

    This leaves out a run that died early or has just started.
    """
    furthest = max(float(one.step[-1]) for one in curves)
    return [one for one in curves if one.step[-1] >= furthest / 2]


def joined(curves: Sequence[Curve], memory: float) -> Curve:
    """Join the runs' curves (none empty), each smoothed with `memory` steps.

    `mean` is the mean over the runs in `long_enough`. It is NaN at steps that one of them lacks, because a mean over
    fewer runs would jump when a run joins or ends. `low` and `high` are the extremes over all runs with a
    value. A run is interpolated between its own steps. `ts` is the mean time since each run's first point, in
    seconds, or NaN if the times of a run are unknown.
    """
    step = np.unique(np.concatenate([one.step for one in curves]))
    heights = np.stack([_at(step, one, smoothed(one.step, one.mean, memory)) for one in curves])
    elapsed = [_at(step, one, one.ts - one.ts[0]) for one in curves if one.is_timed]
    leading = long_enough(curves)
    counted = np.array([any(one is other for other in leading) for one in curves])
    return Curve(
        step,
        heights[counted].mean(axis=0),
        np.fmin.reduce(heights, axis=0),
        np.fmax.reduce(heights, axis=0),
        np.nanmean(elapsed, axis=0) if len(elapsed) == len(curves) else np.full_like(step, np.nan),
        sum((_counted(step, one, one.nans) for one in curves), np.zeros_like(step)),
        sum((_counted(step, one, one.infs) for one in curves), np.zeros_like(step)),
    )


def _counted(step: Array, curve: Curve, count: Array) -> Array:
    """Return `count` (entries,) placed at `step` (steps,).

    `step` contains the curve's own steps.
    """
    placed = np.zeros_like(step)
    placed[np.searchsorted(step, curve.step)] = count
    return placed


def averaged(curves: Sequence[Curve]) -> Curve:
    """Join like `joined`, but average over all runs with a value.

    The result places entries on the token axis.
    """
    one_curve = joined(curves, 0.0)
    step = one_curve.step
    return replace(one_curve, mean=np.nanmean(np.stack([_at(step, one, one.mean) for one in curves]), axis=0))


def _at(step: Array, curve: Curve, value: Array) -> Array:
    """Interpolate `value` (entries,) at `step` (steps,).

    Returns: (steps,) values, NaN before the first and after the last entry.
    """
    return np.interp(step, curve.step, value, left=np.nan, right=np.nan)
