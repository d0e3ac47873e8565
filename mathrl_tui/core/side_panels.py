"""Panels next to a run's charts: stages, values, processes, GPUs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mathrl_tui.core import palette, panels, text
from mathrl_tui.core.palette import Look
from mathrl_tui.core.run import RunSnapshot, Value
from mathrl_tui.core.spans import Row, Span, cut
from mathrl_tui.core.stages import progress_words
from store import at_risk
from store.events import ProcessChange
from store.records import LIVE_STATES
from store.run_progress import StepProgress, Steps
from store.subject import model_name

# Cells of a run's name.
_LEAST_NAME, _LONGEST_NAME = 18, 40
# Cells of a model's name on a narrow and a wide screen, and the cells from which a screen is wide.
_MODEL, _MODEL_IN_FULL, _ROOMY = 17, 30, 120
# Cells of a metric's name on a narrow and a wide panel, and of each arm's value.
_NAME, _NAME_IN_FULL, _VALUE = 18, 24, 9
# Cells from which a panel is wide: stage and arm have a column each.
_WIDE_PANEL = 46


def heading(run: RunSnapshot, width: int, now: float) -> Row:
    """Return one line: run, model, state, stage, progress, time left.

    It ends with the reason of a failure. On a narrow screen the middle of the run's name is cut, so that
    model and progress stay visible. `now` is in Unix seconds.
    """
    state = palette.shown_state(run.state, run.reason)
    look = palette.state(state)
    room = _MODEL if width < _ROOMY else _MODEL_IN_FULL
    model = text.ends(text.one_line(model_name(run.model)), room) if run.model else ""
    row: Row = [
        (f"  {model}" if model else "", palette.ACCENT),
        (f"  {look.mark} {palette.word(state)}", f"bold {look.colour}"),
    ]
    stage = run.current
    if run.reason and run.state not in ("running", "done"):
        row.append((f"  {text.one_line(run.reason)}", palette.DIM if state == "stopped" else palette.WARN))
    elif stage is not None and run.state in ("running", "paused", "stopping"):
        row += [
            ("  ", ""),
            (stage.label, f"bold {palette.INK}"),
            (f"  {text.one_line(progress_words(stage, now))}", palette.DIM),
        ]
    elif run.ended:
        row.append(
            (f"  {text.moment(run.ended)}, took {text.duration(run.ended - run.created)}", palette.DIM)
        )
    room = min(max(width - sum(len(words) for words, _ in row) - 1, _LEAST_NAME), _LONGEST_NAME)
    return cut([(f" {text.run_name(run.run_id, room)}", f"bold {palette.INK}"), *row], width, "…")


def strip(board: Steps, width: int) -> list[Row]:
    """Return the stages in wrapped lines, each with mark and name.

    An active stage has its percentage.
    """
    rows: list[Row] = [[(" ", "")]]
    used = 1
    for stage in board:
        look = palette.state(stage.status)
        share = (
            f" {text.percent(stage.fraction, 0)}"
            if stage.status in ("started", "paused") and stage.total
            else ""
        )
        entry = f"{look.mark} {stage.label}{share}"
        if used + len(entry) > width:
            rows.append([(" ", "")])
            used = 1
        style = f"bold {look.colour}" if stage.status == "started" else look.colour
        rows[-1] += [(entry, style), ("   ", "")]
        used += len(entry) + 3
    return rows


def stage_list(board: Steps, width: int, now: float) -> list[Row]:
    """Return a line for each stage: mark, stage, arm, progress or duration."""
    rows = [title("Stages", width)]
    is_wide = width >= _WIDE_PANEL
    room = width - (24 if is_wide else 15)
    for stage in board:
        look = palette.state(stage.status)
        working = stage.status in ("started", "paused")
        name = f"{stage.stage:<11}{stage.arm:<10}" if is_wide else f"{text.ends(stage.label, 11):<12}"
        style = f"bold {palette.INK}" if working else palette.INK if stage.started else palette.DIM
        row: Row = [(f" {look.mark}", look.colour), (f" {name}", style)]
        row += _progress(stage, room, now, look) if working else [_outcome(stage, room, now)]
        rows.append(row)
    return rows


def risk(run: RunSnapshot, width: int, now: float) -> list[Row]:
    """Return one line with the work that a kill would lose.

    Returns: no line unless the run is live.
    """
    found = at_risk.cost(run.mark, now) if run.state in LIVE_STATES else None
    return [] if found is None else [[(f" {text.clip(found.short, width - 1)}", palette.DIM)]]


def _progress(stage: StepProgress, room: int, now: float, look: Look) -> Row:
    tail = f" {text.percent(stage.fraction, 0) if stage.total else '':>5} {text.duration(stage.remaining(now)):>6}"
    cells = max(room - len(tail) - 1, 3)
    if not stage.total:
        said = text.clip(stage.message or "working", cells)
        return [
            (f"{said:<{cells}}", palette.DIM),
            (f"{text.duration(stage.seconds(now)):>{len(tail)}}", palette.DIM),
        ]
    bar = text.bar(stage.fraction, cells)
    filled = bar.rstrip("─")
    return [(filled, look.colour), (bar[len(filled) :], palette.FAINT), (tail, palette.INK)]


def _outcome(stage: StepProgress, room: int, now: float) -> Span:
    if stage.status == "pending":
        return (f"{'':>{room}}", palette.DIM)
    words = "" if stage.status in ("finished", "started") else stage.status
    took = text.duration(stage.seconds(now))
    return (f"{words:<{room - 9}}{took:>8}", palette.DIM)


def values(run: RunSnapshot, looks: Mapping[str, Look], width: int, height: int) -> list[Row]:
    """Return the newest value of each metric, one column for each arm.

    The live arm comes first.

    There are at most `height` lines.
    """
    arms = [arm for arm in run.arms if any(name.startswith(f"{arm}/") for name in run.latest)]
    arms.sort(key=lambda arm: arm != run.live_arm)
    space = _NAME if width < _WIDE_PANEL else _NAME_IN_FULL
    arms = arms[: max((width - space) // _VALUE, 1)]
    space = width - _VALUE * len(arms)
    rows = [title("Last values", width)]
    head: Row = [(" " * space, "")]
    for arm in arms:
        head.append((f"{looks[arm].mark + ' ' + text.clip(arm, _VALUE - 3):>{_VALUE}}", looks[arm].colour))
    rows.append(head)
    for metric in _metrics_in_order(run.latest, arms):
        row: Row = [(f" {text.ends(panels.title(metric), space - 2):<{space - 1}}", palette.DIM)]
        percent = panels.is_rate(metric)
        row += [_last(run.latest.get(f"{arm}/{metric}"), percent) for arm in arms]
        rows.append(row)
    return rows[:height] if arms else [rows[0], [(" nothing measured yet", palette.DIM)]]


def _metrics_in_order(latest: Mapping[str, Value], arms: Sequence[str]) -> list[str]:
    known = {name.partition("/")[2] for name in latest if name.partition("/")[0] in arms}
    return sorted(known, key=panels.rank)


def _last(value: Value | None, percent: bool) -> Span:
    if value is None:
        return (" " * _VALUE, palette.INK)
    if not math.isfinite(value.value):
        return (f"{value.value:>{_VALUE}}", f"bold {palette.BAD}")
    shown = text.percent(value.value) if percent else text.number(value.value)
    return (f"{shown:>{_VALUE}}", palette.INK)


def processes(found: Sequence[ProcessChange], width: int) -> list[Row]:
    """Return a line for each engine process: role, pid and state.

    The state is `alive` or the reason of its exit.
    """
    rows = [title("Processes", width)]
    for one in found:
        look = palette.STATES["done"] if one.alive else palette.STATES["stopped"]
        said = "alive" if one.alive else one.reason or "ended"
        rows.append(
            [
                (f" {look.mark} ", look.colour),
                (f"{one.role:<11}", palette.INK),
                (f"{one.pid or '':<9}", palette.DIM),
                (text.clip(said, width - 25), palette.DIM),
            ]
        )
    return rows if found else [rows[0], [(" none yet", palette.DIM)]]


def title(words: str, width: int) -> Row:
    """Return a panel's title, with a line to the end of the width."""
    return [(f" {words} ", f"bold {palette.ACCENT}"), ("─" * max(width - len(words) - 3, 0), palette.FAINT)]
