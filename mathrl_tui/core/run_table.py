"""Columns of the list of runs: cells, order, and what fits a width.

RunLine + Workspace ─▶ columns that fit ─▶ cells as spans; sort key ─▶ ordered lines
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mathrl_tui.core import palette, text
from mathrl_tui.core.spans import Row
from mathrl_tui.core.stages import progress_words
from mathrl_tui.core.workspace import Workspace
from store.subject import model_name, profile_name

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import RunLine

# Cells around each column, and of its scroll bar.
_PADDING, _EDGE = 2, 1
_BARS = "▁▂▃▄▅▆▇█"
# Cells from which a difference is shown with its interval.
_WITH_INTERVAL = 26

Key = float | str | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column: name for sorting, title, least and largest width, and rank.

    Columns with a lower rank are kept on narrow screens. An `eager` column grows before others are added.
    """

    name: str
    title: str
    width: int
    rank: int
    key: Callable[[RunLine], Key]
    most: int = 0
    eager: bool = False

    @property
    def widest(self) -> int:
        """Return the largest useful width."""
        return max(self.most, self.width)


def _took(line: RunLine) -> float | None:
    run = line.summary
    return None if run.ended is None or run.started is None else run.ended - run.started


def _left(line: RunLine) -> float | None:
    return None if line.at is None else line.at.eta


def _gain(line: RunLine) -> float | None:
    gain = line.results.gain
    return None if gain is None else gain[1].estimate


def _best(line: RunLine) -> float | None:
    best = line.results.best
    return None if best is None else best.rate


# In the order of the screen.
COLUMNS = (
    Column("run", "run", 22, 0, lambda line: line.summary.run, 40),
    Column("state", "state", 13, 1, lambda line: line.summary.state, 20),
    Column("stage", "stage", 9, 7, lambda line: line.at.label if line.at else None),
    Column("progress", "progress", 10, 2, lambda line: line.fraction),
    Column("left", "left", 6, 3, _left),
    Column("best", "best arm", 12, 4, _best, 26),
    Column("result", "against base, or reason", 19, 5, _gain, 40, eager=True),
    Column("reward", "reward", 7, 9, lambda line: line.results.figures.reward),
    Column("loss", "loss", 20, 6, lambda line: line.results.figures.loss),
    Column("took", "took", 8, 8, _took),
    Column("model", "model", 16, 10, lambda line: model_name(line.summary.model), 24),
    Column("profile", "profile", 14, 11, lambda line: line.summary.profile, 22),
    Column("seed", "seed", 4, 12, lambda line: line.summary.seed),
    Column("started", "started", 12, 13, lambda line: line.summary.started),
    Column("tags", "tags", 12, 14, lambda line: None, 24),
)
NAMES = tuple(column.name for column in COLUMNS)
# The newest run first.
DEFAULT_SORT = "-started"


def fitting(width: int) -> dict[str, int]:
    """Return the columns that fit into `width` cells, with their widths.

    They are in the order of the screen. What is left widens the first columns.
    """
    room = width - _EDGE
    widths: dict[str, int] = {}
    for column in sorted(COLUMNS, key=lambda column: column.rank):
        if column.width + _PADDING > room:
            break
        room -= column.width + _PADDING
        more = min(room, column.widest - column.width) if column.eager else 0
        widths[column.name] = column.width + more
        room -= more
    for name in list(widths):
        more = min(room, COLUMNS[NAMES.index(name)].widest - widths[name])
        widths[name] += more
        room -= more
    return {name: widths[name] for name in NAMES if name in widths}


def titles(widths: dict[str, int], sort: str, task: str) -> list[str]:
    """Return the titles; an arrow marks the column of `sort`.

    The best rate has the name of its task."""
    found = []
    for column in COLUMNS:
        if column.name in widths:
            width = widths[column.name]
            arrow = {column.name: " ▲", f"-{column.name}": " ▼"}.get(sort or DEFAULT_SORT, "")
            title = task if column.name == "best" and task else column.title
            found.append(text.ends(title, width - len(arrow)) + arrow)
    return found


def ordered(lines: Sequence[RunLine], sort: str, workspace: Workspace) -> list[RunLine]:
    """Sort by a column, `-` first for descending.

    Pinned runs come first. Runs without a value come last, whatever the direction.
    """
    name = (sort or DEFAULT_SORT).removeprefix("-")
    if name not in NAMES:
        return ordered(lines, DEFAULT_SORT, workspace)
    descending = (sort or DEFAULT_SORT).startswith("-")
    key = COLUMNS[NAMES.index(name)].key
    tags = workspace.tags
    keys: list[Key] = [
        " ".join(tags.get(line.summary.run, ())) or None if name == "tags" else key(line) for line in lines
    ]
    valued = [pair for pair in zip(keys, lines, strict=True) if pair[0] is not None]
    valued.sort(key=lambda pair: pair[0], reverse=descending)  # type: ignore[arg-type, return-value]
    rest = [line for key, line in zip(keys, lines, strict=True) if key is None]
    found = [*(line for _, line in valued), *rest]
    return sorted(found, key=lambda line: line.summary.run not in workspace.pinned)


def next_sort(sort: str, by: int, shown: Sequence[str]) -> str:
    """Return the sort by the column `by` places further among the shown ones."""
    now = sort or DEFAULT_SORT
    name = now.removeprefix("-")
    place = shown.index(name) if name in shown else -1 if by > 0 else 0
    return sorted_by(shown[(place + by) % len(shown)], now)


def sorted_by(name: str, sort: str) -> str:
    """Return the sort after a request for the column.

    The current column is reversed. Numbers start with the largest, texts with the first.
    """
    now = sort or DEFAULT_SORT
    if now.removeprefix("-") == name:
        return reversed_sort(now)
    return (
        name if name in ("run", "state", "stage", "model", "profile", "seed", "tags", "left") else f"-{name}"
    )


def reversed_sort(sort: str) -> str:
    """Return the sort in the other direction."""
    now = sort or DEFAULT_SORT
    return now.removeprefix("-") if now.startswith("-") else f"-{now}"


def cells(line: RunLine, widths: dict[str, int], workspace: Workspace, task: str, now: float) -> list[Row]:
    """Return the cells of a run's row; `now` is in Unix seconds."""
    makers: dict[str, Callable[[int], Row]] = {
        "run": lambda width: _name(line, workspace, width),
        "state": lambda width: _state(line, width),
        "stage": lambda width: [(text.clip(line.at.label if line.at else "", width), palette.INK)],
        "progress": lambda width: _progress(line, width),
        "left": lambda width: _right(text.duration(line.at.remaining(now)) if line.at else "", width),
        "best": lambda width: _best_cell(line, task, width),
        "result": lambda width: _result(line, width, now),
        "reward": lambda width: _right(_number(line.results.figures.reward), width),
        "loss": lambda width: _loss(line, width),
        "took": lambda width: _right(text.duration(_took(line)), width, palette.DIM),
        "model": lambda width: [
            (text.ends(text.one_line(model_name(line.summary.model)), width), palette.ACCENT)
        ],
        "profile": lambda width: [
            (text.ends(profile_name(line.summary.profile, line.summary.changed), width), palette.DIM)
        ],
        "seed": lambda width: _right(str(line.summary.seed), width, palette.DIM),
        "started": lambda width: [(text.moment(line.summary.started), palette.DIM)],
        "tags": lambda width: [
            (text.clip(" ".join(workspace.tags.get(line.summary.run, ())), width), palette.WARN)
        ],
    }
    return [makers[name](width) for name, width in widths.items()]


def reason(line: RunLine) -> str:
    """Return the first alarm of the run, else the reason of its state.

    Returns: "" if the state needs no attention."""
    if line.alarms:
        return text.one_line(line.alarms[0].words)
    notable = palette.state(_shown(line)).colour in (palette.BAD, palette.WARN)
    return text.one_line(line.summary.reason) if notable else ""


def _shown(line: RunLine) -> str:
    return palette.shown_state(line.summary.state, line.summary.reason)


def _name(line: RunLine, workspace: Workspace, width: int) -> Row:
    run = line.summary.run
    look = workspace.look(run) if run in workspace.marked else None
    pin = "⌃" if run in workspace.pinned else " "
    style = palette.DIM if run in workspace.hidden else f"bold {palette.INK}"
    mark = (look.mark, look.colour) if look else (" ", "")
    return [mark, (pin, palette.ACCENT), (text.run_name(run, width - 2), style)]


def _state(line: RunLine, width: int) -> Row:
    look = palette.state(_shown(line))
    words = f"{look.mark} {palette.word(_shown(line))}"
    if not line.alarms:
        return [(text.clip(words, width), look.colour)]
    return [(f"{text.clip(words, width - 2)} !", palette.WARN)]


def _progress(line: RunLine, width: int) -> Row:
    colour = palette.GOOD if line.summary.state == "done" else palette.state(_shown(line)).colour
    bar = text.bar(line.fraction, width - 6)
    filled = bar.rstrip("─")
    return [
        (filled, colour),
        (bar[len(filled) :], palette.FAINT),
        (f" {text.percent(line.fraction, 0):>5}", palette.DIM),
    ]


def _best_cell(line: RunLine, task: str, width: int) -> Row:
    best = line.results.best if line.results.task == task else None
    if best is None:
        return [(text.clip(line.at.label if line.at else "", width), palette.DIM)]
    rate = f"{100 * best.rate:5.1f} %"
    ends = f" [{100 * best.low:.1f}, {100 * best.high:.1f}]"
    if len(rate) + len(ends) + 1 + len(best.arm) <= width:
        return [(rate, f"bold {palette.INK}"), (ends, palette.DIM), (f" {best.arm}", palette.INK)]
    return [(rate, f"bold {palette.INK}"), (f" {text.clip(best.arm, width - len(rate) - 1)}", palette.INK)]


def _result(line: RunLine, width: int, now: float) -> Row:
    """Return the reason, else the difference to the base, else progress."""
    if words := reason(line):
        return [(text.clip(words, width), palette.WARN)]
    found = line.results.gain
    if found is None:
        words = progress_words(line.at, now) if line.at is not None else ""
        return [(text.clip(words, width), palette.DIM)]
    arm, gain = found
    colour = palette.gain_colour(gain.low, gain.high)
    ends = f" [{text.points(gain.low)}, {text.points(gain.high)}]" if width >= _WITH_INTERVAL else ""
    head = f"{text.points(gain.estimate):>5}"
    return [
        (head, f"bold {colour}"),
        (ends, colour),
        (f" {text.clip(arm, max(width - len(head) - len(ends) - 1, 0))}", palette.INK),
    ]


def _loss(line: RunLine, width: int) -> Row:
    figures = line.results.figures
    cells = width - 8
    return [(spark(figures.losses, cells), palette.ACCENT), (f"{_number(figures.loss):>8}", palette.INK)]


def spark(values: Sequence[float | None], cells: int) -> str:
    """Draw values as bars, `cells` wide; a gap is a blank."""
    if not values:
        return " " * cells
    picked = [values[place * len(values) // cells] for place in range(cells)]
    known = [value for value in picked if value is not None]
    if not known:
        return " " * cells
    low, span = min(known), max(known) - min(known)
    top = len(_BARS) - 1
    return "".join(
        " " if value is None else _BARS[round((value - low) / span * top) if span else 0] for value in picked
    )


def _number(value: float | None) -> str:
    return "" if value is None else text.number(value)


def _right(words: str, width: int, style: str = palette.INK) -> Row:
    return [(f"{words:>{width}}", style)]


def shared_task(lines: Sequence[RunLine]) -> str:
    """Return the first task of most runs; "" without results."""
    counts = Counter(line.results.task for line in lines if line.results.task)
    return max(counts, key=lambda task: counts[task], default="")
