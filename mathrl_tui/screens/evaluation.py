"""How every arm did on every task: rate with its Wilson interval, and what became of the completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.widgets import DataTable, Static

from mathrl_tui import actions
from mathrl_tui.core import board, intervals, palette, text
from mathrl_tui.core.intervals import Scale
from mathrl_tui.core.palette import Look
from mathrl_tui.screens.base import ConsoleScreen
from mathrl_tui.widgets.keyed_table import Cell, KeyedTable
from mathrl_tui.widgets.lines import Lines
from store.results import EvalSummary

_EMPTY = """[b]Nothing has been evaluated in this run yet.[/b]

The stage [b]eval[/b] asks every arm the held-out questions. It is the last stage of the plan; to start it in this run,
go to the run ([b]2[/b]) and press [b]a[/b]."""


class EvaluationScreen(ConsoleScreen):
    """Arm × task."""

    NAME = actions.EVALUATION
    BINDINGS = actions.bindings(actions.EVALUATION)

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, EvalSummary] = {}

    def body(self) -> ComposeResult:
        yield Lines(id="heading")
        yield KeyedTable(id="rates")
        yield Static("", id="empty")

    async def read(self) -> None:
        run_id = self.console.run_id
        if not run_id:
            self.show_emptiness("[b]No run is chosen.[/b]\n\nPress [b]1[/b] and choose one.")
            return
        run, found = await self.reader.ask(lambda feed: (feed.run(run_id), feed.evaluations(run_id)))
        self.show_lines("#heading", [board.heading(run, self.size.width, self.now)])
        rows = _ordered(found, run.arms)
        self._rows = {f"{row.task}/{row.arm}": row for row in rows}
        if not rows:
            self.show_emptiness(_EMPTY)
            return
        self._show_table(rows, palette.arms(run.arms))

    def show_emptiness(self, words: str) -> None:
        """Says what to do instead of showing an empty table."""
        self.query_one("#empty", Static).update(words)
        self.query_one("#empty").display = True
        self.query_one(KeyedTable).display = False

    def _show_table(self, rows: Sequence[EvalSummary], looks: Mapping[str, Look]) -> None:
        width = self.size.width
        scale, room = intervals.rate_scale(rows), min(max(width - 122, 0), 70)
        titles = ["task", "arm", "rate", "95 % interval", "n", "cut off", "none"]
        if room > 10:
            titles = [*titles[:4], intervals.rate_header(scale, room), *titles[4:], "tokens", "step"]
        table = self.query_one(KeyedTable)
        table.show(titles, {key: _cells(row, looks, scale, room) for key, row in self._rows.items()})
        table.display = True
        self.query_one("#empty").display = False
        if not self.focused:
            table.focus()

    @on(DataTable.RowSelected)
    def action_read(self) -> None:
        """Reads the completions of the row."""
        chosen = self._rows.get(self.query_one(KeyedTable).chosen or "")
        if chosen is not None:
            self.console.open_samples(chosen.arm, chosen.task)

    def action_copy(self) -> None:
        """Copies the table as Markdown."""
        lines = [
            "| task | arm | rate | 95 % interval | n | truncated | no answer |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in self._rows.values():
            lines.append(
                f"| {row.task} | {row.arm} | {text.percent(row.rate)} | {_interval(row)} | {row.n} "
                f"| {row.truncated} | {row.no_answer} |"
            )
        self.console.copy("\n".join(lines), "the table as Markdown")


def _ordered(rows: Sequence[EvalSummary], arms: Sequence[str]) -> list[EvalSummary]:
    """By task as they came, then by arm as the profile has them."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    place = {arm: index for index, arm in enumerate(arms)}
    return sorted(rows, key=lambda row: (tasks.index(row.task), place.get(row.arm, len(place)), row.arm))


def _interval(row: EvalSummary) -> str:
    return f"{100 * row.low:.1f} – {100 * row.high:.1f}"


def _cells(row: EvalSummary, looks: Mapping[str, Look], scale: Scale, room: int) -> tuple[Cell, ...]:
    look = looks.get(row.arm, palette.state("?"))
    cells: list[Cell] = [
        Text(text.clip(row.task, 40 if room else 16), palette.INK),
        Text(f"{look.mark} {row.arm}", look.colour),
        Text(f"{text.percent(row.rate):>7}", f"bold {palette.INK}"),
        Text(f"{_interval(row):>13}", palette.INK),
        Text(f"{text.count(row.n):>6}", palette.DIM),
        _count(row.truncated, row.samples, 7),
        _count(row.no_answer, row.samples, 5),
    ]
    if room > 10:
        picture = intervals.interval(row.low, row.rate, row.high, scale, look, room)
        cells.insert(4, Text.assemble(*picture))
        cells += [Text(f"{row.mean_tokens:>6.1f}", palette.DIM), Text(f"{row.step:>5}", palette.DIM)]
    return tuple(cells)


def _count(count: int, samples: int, width: int) -> Text:
    """A count of completions that stands out where it is more than one in twenty."""
    return Text(f"{text.count(count):>{width}}", palette.WARN if count > samples / 20 else palette.DIM)
