"""Regression watch: did training reduce other capabilities?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on
from textual.widgets import DataTable

from mathrl_tui import actions
from mathrl_tui.core import forest_plot as forest
from mathrl_tui.core import intervals, measure, palette, text, watch
from mathrl_tui.core.completions import CompletionChoice
from mathrl_tui.core.intervals import Scale
from mathrl_tui.core.run import RunSnapshot
from mathrl_tui.core.watch import Flag
from mathrl_tui.screens.results import ResultsScreen, axis_cells
from mathrl_tui.screens.table import WIDE, Table
from mathrl_tui.widgets.keyed_table import TableCell

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import HomeData


class WatchScreen(ResultsScreen[Flag]):
    """Task × arm: kept, lost or not settled; perplexities have their own axis."""

    NAME = actions.WATCH
    BINDINGS = actions.bindings(actions.WATCH)
    EMPTY = """[b]Nothing is watched in this run yet.[/b]

The regression watch compares every arm with the first one on the tasks of [b]eval.suite[/b], and flags a loss above
[b]eval.margin[/b]. It needs a profile with such tasks, and the stage [b]eval[/b] done for two arms."""

    def found(self, home_data: HomeData, run_id: str) -> Sequence[Flag]:
        """Return the run's watched tasks; called on the reader's thread."""
        return home_data.watch(run_id)

    def keyed(self, found: Sequence[Flag], run: RunSnapshot) -> dict[str, Flag]:
        """Return the watched tasks, accuracies first, by `task/arm`."""
        groups = intervals.by_measure(found)
        return {f"{one.watched.task}/{one.watched.arm}": one for group in groups.values() for one in group}

    def table(self, run: RunSnapshot) -> Table:
        """Return the watched tasks as a table with the bound on each loss."""
        wide = self.size.width >= WIDE
        room = max(min(self.size.width - 108, 81), 21) if wide else 13
        groups = intervals.by_measure(self.rows.values())
        scales = {
            kind: intervals.difference_scale([one.comparison for one in group], *(one.limit for one in group))
            for kind, group in groups.items()
        }
        first = next(iter(self.rows.values()))
        above = first.measure
        titles = ["task", "arm", "standing", *forest.titles(first.comparison, scales[above], room)]
        cells: dict[str, Sequence[TableCell]] = {}
        for key, one in self.rows.items():
            scale = scales[one.measure]
            if one.measure != above:
                above = one.measure
                named = [above, "lower is", "better", *forest.titles(one.comparison, scale, room)]
                cells[f"axis of {above}"] = axis_cells(named, 3 if wide else 0)
            cells[key] = (*_cells(one, scale, room, wide), *(_figures(one) if wide else ()))
        return [*titles, *(("margin", "loss at most", "n") if wide else ())], cells

    def words(self, key: str) -> Text:
        """Return the summary of the watch, and the data of one watched task.

        `key` is `task/arm`. An unknown one gives the summary alone.
        """
        chosen = self.rows.get(key)
        words = Text(f"{watch.summary(list(self.rows.values()))}.", f"bold {palette.INK}")
        if chosen is not None:
            sentence = watch.sentence(chosen)
            words.append(f"\n{chosen.look.mark} {sentence[0].upper()}{sentence[1:]}.", chosen.look.colour)
            words.append(f"\n{watch.details(chosen)}", palette.DIM)
        return words

    @on(DataTable.RowSelected)
    def action_read(self) -> None:
        """Open completions with different verdicts, next to the first arm's."""
        if chosen := self.chosen:
            row = chosen.comparison
            shown = "flips" if row.measure == "accuracy" else "all"
            self.console.open_samples(CompletionChoice(row.b, row.task, row.a, shown))

    def action_copy(self) -> None:
        """Copy the table as Markdown."""
        self.console.copy(watch.markdown(list(self.rows.values())), "the table as Markdown")


def _cells(one: Flag, scale: Scale, room: int, wide: bool) -> tuple[TableCell, ...]:
    row, look = one.comparison, one.look
    picture = intervals.interval(row.ci_low, row.difference, row.ci_high, scale, look, room, one.limit)
    return (
        Text(text.ends(row.task, 30 if wide else 13), palette.INK),
        Text(text.clip(row.b, 10), f"bold {palette.INK}"),
        Text(f"{look.mark} {one.watched.standing}", f"bold {look.colour}"),
        Text(f"{forest.words(row):>20}", look.colour),
        Text.assemble(*picture),
    )


def _figures(one: Flag) -> tuple[TableCell, ...]:
    """Return the cells after the plot, for wide screens."""
    loss = measure.amount(max(one.watched.largest_loss, 0.0), one.measure)
    return (
        Text(f"{measure.amount(one.watched.margin, one.measure):>10}", palette.DIM),
        Text(f"{loss:>12}", palette.DIM),
        Text(f"{text.count(one.comparison.n):>6}", palette.DIM),
    )
