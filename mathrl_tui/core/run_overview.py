"""The overview of one run: reason, results, stages, settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mathrl_tui.core import alarms, intervals, palette, side_panels, subject, text
from mathrl_tui.core.intervals import Scale
from mathrl_tui.core.spans import Row
from mathrl_tui.core.workspace import Workspace
from store.records import LIVE_STATES
from store.results import EvalSummary
from store.subject import changes, model_in_full

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import RunLine

# Cells of the name of an arm, and of its rate.
_ARM, _RATE = 10, 8
# Sections of the profile that differ most between runs.
_SECTIONS = ("grpo", "sft", "pretrain", "model", "data", "preprocess", "eval", "worker", "hardware")
# Cells from which results have a plot of their intervals.
_PLOT = 12


def lines_below(line: RunLine, workspace: Workspace, width: int) -> list[Row]:
    """Return a few rows: alarms or reason, subject, tags and note."""
    rows = alarm_lines(line)
    if not rows and line.summary.reason and line.summary.state not in ("running", "done"):
        rows.append([(f" {text.clip(line.summary.reason, width - 1)}", palette.WARN)])
    rows.append(subject.row(line.summary, width))
    words = _tagged(line, workspace)
    return [*rows, [(f" {text.clip(words, width - 1)}", palette.INK)]] if words else rows


def alarm_lines(line: RunLine) -> list[Row]:
    """Return one row with the run's alarms; no row without alarms."""
    return [alarms.row(line.alarms, line.summary.state in LIVE_STATES)] if line.alarms else []


def overview(
    line: RunLine,
    settings: Sequence[tuple[str, str]],
    workspace: Workspace,
    width: int,
    height: int,
    now: float,
) -> list[Row]:
    """Return at most `height` rows of `width` cells; `now` is in Unix seconds.

    The run's settings fill the rows that are left.
    """
    run = line.summary
    state = palette.shown_state(run.state, run.reason)
    look = palette.state(state)
    rows: list[Row] = [
        [(f" {text.run_name(run.run, width - 2)}", f"bold {palette.INK}")],
        [(f" {look.mark} {palette.word(state)}", f"bold {look.colour}"), *_when(line, now)],
    ]
    for alarm in line.alarms:
        rows += _wrapped(alarm.words, width, palette.BAD if alarm.grave else palette.WARN)
    if run.reason and run.state not in ("running", "done"):
        rows += _wrapped(run.reason, width, palette.WARN)
    rows += _wrapped(_tagged(line, workspace), width, palette.INK)
    rows += [*_results(line, width), *_stages(line, width, now), *_subject(line, width)]
    if settings and len(rows) + 2 < height:
        rows += [side_panels.title("Settings", width), *_settings(settings, width)]
    return rows[:height]


def _when(line: RunLine, now: float) -> Row:
    run = line.summary
    if run.started is None:
        return []
    took = text.duration((now if run.ended is None else run.ended) - run.started)
    words = f"  {text.moment(run.started)}, {'took' if run.ended else 'for'} {took}"
    if line.at is not None and (left := line.at.remaining(now)) is not None:
        words += f", {text.duration(left)} left"
    return [(words, palette.DIM)]


def _results(line: RunLine, width: int) -> list[Row]:
    results = line.results
    if not results.rates:
        return []
    looks = palette.arms(results.rates)
    room = max(width - _ARM - _RATE - 4, 0)
    scale = intervals.value_scale(list(results.rates.values()))
    rows = [side_panels.title(results.task, width)]
    for arm, rate in results.rates.items():
        head: Row = [
            (f" {looks[arm].mark} {text.clip(arm, _ARM - 2):<{_ARM - 2}}", looks[arm].colour),
            (f"{text.percent(rate.rate):>{_RATE}} ", f"bold {palette.INK}"),
        ]
        rows.append([*head, *_plot(rate, scale, looks[arm], room)])
    gains = results.gains or {}
    base = next(iter(results.rates))
    for arm, gain in gains.items():
        colour = palette.gain_colour(gain.low, gain.high)
        words = f"{text.points(gain.estimate)} [{text.points(gain.low)}, {text.points(gain.high)}]"
        rows.append([(f" {arm} − {base} ", palette.INK), (f"{words} points", colour)])
    if results.gains is None:
        rows.append([(" differences are being computed", palette.DIM)])
    return rows


def _plot(rate: EvalSummary, scale: Scale, look: palette.Look, room: int) -> Row:
    if room < _PLOT:
        return [(f"{100 * rate.low:.1f}–{100 * rate.high:.1f}", palette.DIM)]
    return intervals.interval(rate.low, rate.rate, rate.high, scale, look, room)


def _stages(line: RunLine, width: int, now: float) -> list[Row]:
    rows = [side_panels.title("Stages", width)]
    for stage in line.summary.stages:
        status = palette.shown_state(stage.status, line.summary.reason)
        look = palette.state(status)
        words = f" {look.mark} {stage.stage:<11}{stage.arm:<10}"
        tail = palette.word(status)
        if line.at is not None and line.at.name == (stage.stage, stage.arm) and line.at.total:
            tail = f"{text.percent(line.at.fraction, 0)}  {text.duration(line.at.remaining(now))} left"
        rows.append([(words, look.colour), (text.clip(tail, max(width - len(words), 0)), palette.DIM)])
    return rows


def _subject(line: RunLine, width: int) -> list[Row]:
    run = line.summary
    rows = [side_panels.title("Subject", width)]
    model = text.tail(text.one_line(model_in_full(run.model)), width - 8)
    rows.append([(" model ", palette.DIM), (model, palette.ACCENT)])
    rows.append([(f" profile {text.one_line(run.profile)}, seed {run.seed}", palette.DIM)])
    for change in changes(run.changed):
        rows.append([(f" {text.clip(change, width - 1)}", palette.WARN)])
    return rows


def _settings(settings: Sequence[tuple[str, str]], width: int) -> list[Row]:
    """Return a row for each setting, those of the stages first."""
    rank = {section: place for place, section in enumerate(_SECTIONS)}
    ranked = sorted(settings, key=lambda pair: rank.get(pair[0].partition(".")[0], len(rank)))
    name = width // 2
    return [
        [
            (f" {text.tail(key, name):<{name}} ", palette.DIM),
            (text.clip(value, max(width - name - 2, 0)), palette.INK),
        ]
        for key, value in ranked
    ]


def _tagged(line: RunLine, workspace: Workspace) -> str:
    run = line.summary.run
    tags = " ".join(f"#{tag}" for tag in workspace.tags.get(run, ()))
    return text.one_line(f"{tags}  {workspace.notes.get(run, '')}".strip())


def _wrapped(words: str, width: int, style: str) -> list[Row]:
    """Return `words` on lines of at most `width` cells."""
    rows: list[Row] = []
    current = ""
    for word in text.one_line(words).split():
        if current and len(current) + 1 + len(word) > width - 2:
            rows.append([(f" {current}", style)])
            current = word
        else:
            current = f"{current} {word}".strip()
    return [*rows, [(f" {text.clip(current, width - 1)}", style)]] if current else rows
