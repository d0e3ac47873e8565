"""The first line of a chart: its title, and each arm's newest values.

The last recorded value comes first, the smoothed one next to it. Values that are not finite are counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mathrl_tui.core import palette, text
from mathrl_tui.core.curve import Curve
from mathrl_tui.core.spans import Row

if TYPE_CHECKING:
    from mathrl_tui.core.chart import Line


def legend(
    title: str,
    lines: Sequence[tuple[Line, int | None]],
    weight: float,
    width: int,
    *,
    percent: bool = False,
    focused: bool = False,
) -> Row:
    """Return the title, then mark, name and newest value of each arm.

    If an arm has an entry, its value is that of the entry. The live arm comes first.

    The smoothed value follows after `~`, unless it does not fit. Arms that do not fit are left out.
    If a line is a mean, the number of runs follows in brackets.
    """
    ground = " on #1f4a66" if focused else " on #1a222c"
    row: Row = [
        ("▌" if focused else " ", palette.ACCENT + ground),
        (f"{title}  ", f"bold {palette.INK}{ground}"),
    ]
    room = width - len(title) - 3
    ordered = sorted(lines, key=lambda pair: not pair[0].live)
    forms = [_forms(one, place, weight, percent) for one, place in ordered]
    # All lines without their smoothed values are better than some with them.
    is_roomy = sum(len(full) + 4 for full, _ in forms) <= room
    for (one, _), (full, short) in zip(ordered, forms, strict=True):
        entry = full if is_roomy or (len(forms) == 1 and len(full) + 4 <= room) else short
        if len(entry) + 4 > room:
            break
        row += [(f"{one.look.mark} ", one.look.colour + ground), (f"{entry}  ", palette.INK + ground)]
        room -= len(entry) + 4
    return [*row, (" " * (room), palette.INK + ground)]


def _forms(one: Line, place: int | None, weight: float, percent: bool) -> tuple[str, str]:
    """Return a line's entry with its smoothed value, and without it."""
    newest, smooth = (
        _newest(one, weight, percent) if place is None else _values_at(one, place, weight, percent)
    )
    runs, lost = f" ({one.runs})" if one.runs else "", _lost(one.curve)
    return f"{one.name} {newest}{smooth}{runs}{lost}", f"{one.name} {newest}{runs}{lost}"


def _newest(one: Line, weight: float, percent: bool) -> tuple[str, str]:
    """Return the last recorded value, and the smoothed one after `~`.

    Returns: "" without smoothing.

    For several runs, the first is the last value that all of them have.
    """
    formatted = text.percent if percent else text.number
    middle = one.smoothed(weight)
    known = middle[~np.isnan(middle)]
    value = float(known[-1]) if len(known) else math.nan
    if one.runs:
        return formatted(value), ""
    raw = one.newest
    if raw is None:
        raw = math.inf if one.curve.infs[-1] else float(one.curve.mean[-1])
    shown = (
        formatted(raw) if math.isfinite(raw) else "NaN" if math.isnan(raw) else f"{raw:g}".replace("-", "−")
    )
    return shown, f" ~{formatted(value)}" if weight and len(known) else ""


def _values_at(one: Line, entry: int, weight: float, percent: bool) -> tuple[str, str]:
    """Return the value of an entry with its step, and the smoothed value."""
    formatted = text.percent if percent else text.number
    value, smooth = float(one.curve.mean[entry]), float(one.smoothed(weight)[entry])
    shown = formatted(value) if math.isfinite(value) else "inf" if one.curve.infs[entry] else "NaN"
    step = text.number(float(one.curve.step[entry]))
    return f"{shown} @{step}", f" ~{formatted(smooth)}" if weight and not one.runs else ""


def _lost(one: Curve) -> str:
    """Return the numbers of values that are not finite: ` 10 NaN, 1 inf`."""
    counts = ((int(one.nans.sum()), "NaN"), (int(one.infs.sum()), "inf"))
    words = ", ".join(f"{count} {name}" for count, name in counts if count)
    return f" {words}" if words else ""
