"""Rates and differences of several runs as intervals on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mathrl_tui.core import intervals, palette, text
from mathrl_tui.core.intervals import Scale
from mathrl_tui.core.marked_runs import short_names
from mathrl_tui.core.palette import Look
from mathrl_tui.core.spans import Row
from mathrl_tui.core.workspace import Workspace

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import RunLine

# Cells of an arm's name and of a value, and the fewest for the plot of an interval.
_ARM, _VALUE, _PLOT = 10, 8, 16
_LEAST_NAME = 8

# Arm, value in words, and low end, estimate and high end.
_Result = tuple[str, str, float, float, float]


def plots(lines: Sequence[RunLine], workspace: Workspace, task: str, width: int, height: int) -> list[Row]:
    """Return the arms' rates on `task`, then their differences to the base.

    The base is the first arm. Marked runs have their colours.

    Returns: at most `height` rows; no rows without results.
    """
    chosen = [line for line in lines if line.results.task == task and line.results.rates]
    if not chosen:
        return []
    rates = {line.summary.run: _rates(line) for line in chosen}
    gains = {line.summary.run: found for line in chosen if (found := _gains(line))}
    name = _name_cells(list(rates), width)
    room = max(width - name - _ARM - _VALUE - 6, _PLOT)
    scale = intervals.value_scale([row for line in chosen for row in line.results.rates.values()])
    axis = intervals.value_header(scale, room, "accuracy")
    rows = [_head(task, width - room, axis), *_plot(rates, workspace, scale, name, room)]
    if gains:
        ends = [end for found in gains.values() for _, _, low, _, high in found for end in (low, high)]
        scale = intervals.difference_scale((), *ends)
        axis = intervals.difference_header(scale, room)
        rows += [[], _head("against base, points", width - room, axis)]
        rows += _plot(gains, workspace, scale, name, room)
    return rows[:height]


def _rates(line: RunLine) -> list[_Result]:
    return [
        (arm, text.percent(rate.rate), rate.low, rate.rate, rate.high)
        for arm, rate in line.results.rates.items()
    ]


def _gains(line: RunLine) -> list[_Result]:
    return [
        (arm, text.points(gain.estimate), gain.low, gain.estimate, gain.high)
        for arm, gain in (line.results.gains or {}).items()
    ]


def _name_cells(runs: Sequence[str], width: int) -> int:
    longest = max(map(len, short_names(runs).values()))
    return min(longest, max(width - _ARM - _VALUE - _PLOT - 6, _LEAST_NAME))


def _head(words: str, width: int, axis: str) -> Row:
    return [
        (f" {text.ends(words, width - 2):<{width - 2}} ", f"bold {palette.ACCENT}"),
        (axis, palette.ACCENT),
    ]


def _plot(
    found: dict[str, list[_Result]], workspace: Workspace, scale: Scale, name: int, room: int
) -> list[Row]:
    """Return a row for each arm of each run; the first of a run has its name."""
    names = short_names(list(found))
    rows: list[Row] = []
    for run, results in found.items():
        look = workspace.look(run) if run in workspace.marked else None
        shown = look or Look("●", palette.INK)
        for place, (arm, words, low, point, high) in enumerate(results):
            label = text.run_name(names[run], name) if not place else ""
            mark = look.mark if look and not place else " "
            rows.append(
                [
                    (f" {mark} {label:<{name}} ", shown.colour),
                    (f"{text.clip(arm, _ARM - 1):<{_ARM}}", palette.INK),
                    (f"{words:>{_VALUE}}  ", f"bold {palette.INK}"),
                    *intervals.interval(low, point, high, scale, shown, room),
                ]
            )
    return rows
