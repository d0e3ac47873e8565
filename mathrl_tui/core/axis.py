"""Axes with round ticks.

Their ends move in steps, so few lines are redrawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mathrl_tui.core import text
from store.wording import human

_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Axis:
    """Ends, ticks and labels of an axis.

    They are in the plotted unit, or its log10 on a log axis.
    """

    start: float
    end: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]


def round_step(span: float, parts: int) -> float:
    """Return a round step that divides `span` into at most `parts`.

    It is the smallest such 1, 2, 2.5 or 5 × a power of ten.
    """
    if span <= 0 or not math.isfinite(span):
        return 1.0
    rough = span / max(parts, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1.0, 2.0, 2.5, 5.0, 10.0):
        if factor * power >= rough * (1 - 1e-9):
            return factor * power
    return 10.0 * power


def value_axis(low: float, high: float, parts: int, *, log: bool = False, percent: bool = False) -> Axis:
    """Return a vertical axis around [low, high].

    Linear ends are multiples of a quarter of a tick. With `log`, values are log10 and ends are integers.

    Args:
        parts: maximum number of intervals between ticks.
        percent: label fractions as percent.
    """
    if log:
        return _log_axis(low, high, parts)
    if high - low < 1e-12 * max(abs(high), abs(low), 1e-300):
        margin = abs(high) * 0.1 or 1.0
        low, high = low - margin, high + margin
    step = round_step(high - low, parts)
    grain = step / 4
    start, end = math.floor(low / grain + 1e-9) * grain, math.ceil(high / grain - 1e-9) * grain
    ticks = _multiples(step, start, end)
    largest = max((abs(tick) for tick in ticks), default=step)
    return Axis(start, end, ticks, tuple(_label(tick, step, largest, percent) for tick in ticks))


def _multiples(step: float, start: float, end: float) -> tuple[float, ...]:
    """Return the multiples of `step` in [start, end]."""
    return tuple(
        index * step for index in range(math.ceil(start / step - 1e-9), math.floor(end / step + 1e-9) + 1)
    )


def _log_axis(low: float, high: float, parts: int) -> Axis:
    first, last = math.floor(low + 1e-9), math.ceil(high - 1e-9)
    if last <= first:
        last = first + 1
    stride = max(1, math.ceil((last - first) / max(parts, 1)))
    last = first + math.ceil((last - first) / stride) * stride
    ticks = tuple(float(power) for power in range(first, last + 1, stride))
    return Axis(
        ticks[0],
        ticks[-1],
        ticks,
        tuple(human(f"1e{int(tick)}" if abs(tick) > 3 else f"{10**tick:g}") for tick in ticks),
    )


def _label(tick: float, step: float, largest: float, percent: bool) -> str:
    """Format `tick` with enough digits to differ from its neighbours.

    `largest` is the largest absolute value.
    """
    if percent:
        tick, step, largest = 100 * tick, 100 * step, 100 * largest
    if abs(tick) < step / 2:
        return "0%" if percent else "0"
    significant = math.ceil(math.log10(largest / step)) + 2
    if largest >= 1e4 and significant <= 4:
        label = text.number(tick)
    elif largest < 1e-3:
        label = f"{tick:.{significant}g}"
    else:
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        exact = abs(step * 10**digits - round(step * 10**digits)) < 1e-6
        label = f"{tick:.{digits if exact else digits + 1}f}"
    return human(label) + "%" * percent


def position_axis(start: float, end: float, parts: int, kind: str, *, snap: bool) -> Axis:
    """Return a horizontal axis over steps, tokens or seconds.

    Args:
        parts: maximum number of intervals between ticks.
        kind: "step", "tokens" or "time"; time is in seconds.
        snap: round `end` up to an eighth of a round number.
    """
    if end <= start:
        end = start + 1.0
    if snap:
        grain = round_step(end - start, 10) / (2 if end - start > 20 else 1)
        end = start + math.ceil((end - start) / grain - 1e-9) * grain
    step = _time_step(end - start, parts) if kind == "time" else round_step(end - start, parts)
    if kind != "time":
        step = max(step, 1.0)
    ticks = _multiples(step, start, end)
    show: Callable[[float], str] = text.duration if kind == "time" else text.number
    return Axis(start, end, ticks, tuple(show(tick) for tick in ticks))


def log_position_axis(start: float, end: float, kind: str) -> Axis:
    """Return a horizontal axis over log10 of steps, tokens or seconds.

    Its ticks are at powers of ten.
    Args:
        start: log10 of the first position.
        end: log10 of the last position.
        kind: as for `position_axis`.
    """
    if end <= start:
        end = start + 1.0
    powers = [float(power) for power in range(math.ceil(start - 1e-9), math.floor(end + 1e-9) + 1)]
    # A window within one power of ten is labelled at its ends.
    ticks = powers if len(powers) > 1 else [start, end]
    show: Callable[[float], str] = text.duration if kind == "time" else text.number
    return Axis(start, end, tuple(ticks), tuple(show(float(f"{10**tick:.3g}")) for tick in ticks))


def _time_step(span: float, parts: int) -> float:
    for step in _TIME_STEPS:
        if span / step <= parts:
            return float(step)
    return math.ceil(span / parts / 86400) * 86400.0
