"""Arms against each other on the same questions: paired differences, a forest plot, a verdict in words."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.widgets import DataTable, Static

from mathrl_tui import actions
from mathrl_tui.core import board, intervals, palette, text
from mathrl_tui.core.intervals import Scale
from mathrl_tui.screens.base import ConsoleScreen
from mathrl_tui.widgets.keyed_table import Cell, KeyedTable
from mathrl_tui.widgets.lines import Lines
from store.comparison import Comparison
from store.verdict import verdict

_EMPTY = """[b]There is nothing to compare yet.[/b]

A comparison needs two arms that answered the same questions. The stage [b]eval[/b] gives it both; the run's
screen ([b]2[/b]) shows how far it is."""


class ComparisonScreen(ConsoleScreen):
    """Every pair of the run's arms, base first, on every task."""

    NAME = actions.COMPARISON
    INTERVAL = 2.0
    BINDINGS = actions.bindings(actions.COMPARISON)

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, Comparison] = {}

    def body(self) -> ComposeResult:
        yield Lines(id="heading")
        yield KeyedTable(id="forest")
        yield Static("", id="empty")
        yield Static("", id="words", markup=False)

    async def read(self) -> None:
        run_id = self.console.run_id
        if not run_id:
            self.show_emptiness("[b]No run is chosen.[/b]\n\nPress [b]1[/b] and choose one.")
            return
        run, found = await self.reader.ask(lambda feed: (feed.run(run_id), feed.comparisons(run_id)))
        self.show_lines("#heading", [board.heading(run, self.size.width, self.now)])
        self._rows = {f"{row.task}/{row.a}/{row.b}": row for row in _ordered(found)}
        if not found:
            self.show_emptiness(_EMPTY)
            return
        self._show_table(list(self._rows.values()))
        self._show_words()

    def show_emptiness(self, words: str) -> None:
        """Says what to do instead of showing an empty table."""
        self.query_one("#empty", Static).update(words)
        self.query_one("#empty").display = True
        self.query_one(KeyedTable).display = False
        self.query_one("#words").display = False

    def _show_table(self, rows: Sequence[Comparison]) -> None:
        wide, several = self.size.width >= 120, len({row.task for row in rows}) > 1
        room = max(min(self.size.width - 104, 81), 21) if wide else 15 if several else 29
        scale = intervals.difference_scale(rows)
        titles = ["task"] if several or wide else []
        titles += ["b − a", "points [95 %]", intervals.difference_header(scale, room)]
        if wide:
            titles += ["p Holm", "found from", "b only", "a only", "n"]
        table = self.query_one(KeyedTable)
        cells = {key: _cells(row, scale, room, wide) for key, row in self._rows.items()}
        table.show(titles, cells if several or wide else {key: row[1:] for key, row in cells.items()})
        table.display = True
        self.query_one("#words").display = True
        self.query_one("#empty").display = False
        if not self.focused:
            table.focus()

    @on(DataTable.RowHighlighted)
    def _show_words(self) -> None:
        """What the row under the cursor says in words, with its pair on all tasks."""
        chosen = self._rows.get(self.query_one(KeyedTable).chosen or "")
        if chosen is None:
            return
        pair = [row for row in self._rows.values() if (row.a, row.b) == (chosen.a, chosen.b)]
        first = [chosen, *(row for row in pair if row is not chosen)]
        sentence = verdict(first)
        lines = [f"{sentence[0].upper()}{sentence[1:]}.", *intervals.details(chosen)]
        words = Text("\n".join([lines[0], ""]), f"bold {palette.INK}")
        words.append("\n".join(lines[1:]), palette.DIM)
        words.append("\nEnter reads the answers that differ.", palette.ACCENT)
        self.query_one("#words", Static).update(words)

    @on(DataTable.RowSelected)
    def action_read(self) -> None:
        """Reads the completions that flipped between the two arms."""
        chosen = self._rows.get(self.query_one(KeyedTable).chosen or "")
        if chosen is not None:
            self.console.open_samples(chosen.b, chosen.task, other=chosen.a, shown="flips")

    def action_copy(self) -> None:
        """Copies the table as Markdown."""
        lines = ["| task | a | b | b − a, points | p (Holm) | n |", "|---|---|---|---|---|---|"]
        for row in self._rows.values():
            lines.append(
                f"| {row.task} | {row.a} | {row.b} | {intervals.difference_words(row)} "
                f"| {text.p_value(row.p_value_holm)} | {row.n} |"
            )
        self.console.copy("\n".join(lines), "the table as Markdown")


def _ordered(rows: Sequence[Comparison]) -> list[Comparison]:
    """By task as they came; pairs keep their order."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    return sorted(rows, key=lambda row: tasks.index(row.task))


def _cells(row: Comparison, scale: Scale, room: int, wide: bool) -> tuple[Cell, ...]:
    look = intervals.difference_look(row)
    picture = intervals.interval(row.ci_low, row.difference, row.ci_high, scale, look, room)
    cells: tuple[Cell, ...] = (
        Text(text.clip(row.task, 30 if wide else 12), palette.INK),
        Text(f"{row.b} − {row.a}", f"bold {palette.INK}"),
        Text(f"{intervals.difference_words(row):>20}", look.colour),
        Text.assemble(*picture),
    )
    if not wide:
        return cells
    return (
        *cells,
        Text(f"{text.p_value(row.p_value_holm):>6}", palette.INK),
        Text(f"{100 * row.minimum_detectable_effect:>10.1f}", palette.DIM),
        Text(f"{text.count(row.b_only):>6}", palette.DIM),
        Text(f"{text.count(row.a_only):>6}", palette.DIM),
        Text(f"{text.count(row.n):>6}", palette.DIM),
    )
