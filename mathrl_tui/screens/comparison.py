"""Comparison of arms: paired differences, forest plot, verdict.

Arms are compared on the same questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on
from textual.widgets import DataTable

from mathrl_tui import actions
from mathrl_tui.core import forest_plot as forest
from mathrl_tui.core import intervals, measure, palette, text
from mathrl_tui.core.completions import CompletionChoice
from mathrl_tui.core.intervals import Scale
from mathrl_tui.core.run import RunSnapshot
from mathrl_tui.screens.results import ResultsScreen, axis_cells
from mathrl_tui.screens.table import WIDE, Table
from mathrl_tui.widgets.keyed_table import TableCell
from store.comparison import Comparison
from store.verdict import verdict

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import HomeData

# Cells from which the detectable difference has a column; it is below the table too.
_ROOMY = 140
_PERPLEXITY = (
    "Perplexities are compared by their ratio on the same documents: +2 % is a perplexity 2 % higher. "
    "Lower is better, so values left of zero are gains."
)


class ComparisonScreen(ResultsScreen[Comparison]):
    """Each pair of the run's arms, base first, on each task.

    Perplexities have their own axis.
    """

    NAME = actions.COMPARISON
    BINDINGS = actions.bindings(actions.COMPARISON)
    EMPTY = """[b]There is nothing to compare yet.[/b]

A comparison needs two arms that answered the same questions. The stage [b]eval[/b] gives it both; the run's
screen ([b]2[/b]) shows how far it is."""

    def found(self, home_data: HomeData, run_id: str) -> Sequence[Comparison]:
        """Return the run's comparisons; called on the reader's thread."""
        return home_data.comparisons(run_id)

    def keyed(self, found: Sequence[Comparison], run: RunSnapshot) -> dict[str, Comparison]:
        """Return the comparisons in display order, by `task/a/b`."""
        return {f"{row.task}/{row.a}/{row.b}": row for row in forest.ordered(found)}

    def table(self, run: RunSnapshot) -> Table:
        """Return the comparisons as a table with a forest plot."""
        rows = list(self.rows.values())
        wide, several = self.size.width >= WIDE, len({row.task for row in rows}) > 1
        roomy = self.size.width >= _ROOMY
        room = max(min(self.size.width - 108, 81), 21) if wide else 15 if several else 29
        groups = intervals.by_measure(rows)
        scales = {kind: intervals.difference_scale(group) for kind, group in groups.items()}
        above = first = rows[0].measure
        name = 30 if roomy else 20 if wide else 13
        titles = ["task", "b − a", *forest.titles(rows[0], scales[first], room)]
        cells: dict[str, Sequence[TableCell]] = {}
        for key, row in self.rows.items():
            scale = scales[row.measure]
            if row.measure != above:
                above = row.measure
                named = [above, "lower is better", *forest.titles(row, scale, room)]
                cells[f"axis of {above}"] = axis_cells(named, (5 if roomy else 4) if wide else 0)
            cells[key] = (*_cells(row, scale, room, name), *(_figures(row, roomy) if wide else ()))
        if wide:
            titles += ["p Holm", *(["detectable"] if roomy else []), "b only", "a only", "n"]
        if not (several or wide):
            return titles[1:], {key: row[1:] for key, row in cells.items()}
        return titles, cells

    def words(self, key: str) -> Text:
        """Return the verdict and the data of a comparison.

        Its `key` is `task/a/b`. The heading of the perplexities has another key: it gives an explanation of perplexity.
        """
        chosen = self.rows.get(key)
        if chosen is None:
            return Text(_PERPLEXITY, palette.DIM)
        pair = [row for row in self.rows.values() if (row.a, row.b) == (chosen.a, chosen.b)]
        others = [row for row in pair if row is not chosen] if self.size.width >= WIDE else []
        # The other tasks are included only if they leave space for the table.
        sentence = verdict([chosen, *others])
        words = Text(f"{sentence[0].upper()}{sentence[1:]}.\n", f"bold {palette.INK}")
        words.append("\n".join(forest.details(chosen)), palette.DIM)
        if self.size.width < WIDE or chosen.measure == "perplexity":
            # The footer names the keys.
            return words
        keys = f"\nEnter reads what flipped; b what {chosen.b} alone has right, a what {chosen.a} alone has."
        return words.append(keys, palette.ACCENT)

    @on(DataTable.RowSelected)
    def action_read(self) -> None:
        """Open the completions that flipped between the two arms.

        For perplexities, open all documents.
        """
        if self.chosen is not None:
            self.action_flips("flips" if self.chosen.measure == "accuracy" else "all")

    def action_flips(self, shown: str) -> None:
        """Open the selected pair's completions that pass the filter `shown`."""
        if chosen := self.chosen:
            self.console.open_samples(CompletionChoice(chosen.b, chosen.task, chosen.a, shown))

    def action_copy(self) -> None:
        """Copy the table as Markdown."""
        self.console.copy(forest.markdown(list(self.rows.values())), "the table as Markdown")


def _cells(row: Comparison, scale: Scale, room: int, name: int) -> tuple[TableCell, ...]:
    look = forest.look(row)
    picture = intervals.interval(row.ci_low, row.difference, row.ci_high, scale, look, room)
    return (
        Text(text.ends(row.task, name), palette.INK),
        Text(f"{row.b} − {row.a}", f"bold {palette.INK}"),
        Text(f"{forest.words(row):>20}", look.colour),
        Text.assemble(*picture),
    )


def _figures(row: Comparison, roomy: bool) -> tuple[TableCell, ...]:
    """Return the cells after the plot; those of `titles` in `table`."""
    detectable = measure.detectable(row.minimum_detectable_effect, row.measure).removesuffix(" points")
    return (
        Text(f"{text.p_value(row.p_value_holm):>6}", palette.INK),
        *((Text(f"{detectable:>10}", palette.DIM),) if roomy else ()),
        Text(f"{text.count(row.b_only):>6}", palette.DIM),
        Text(f"{text.count(row.a_only):>6}", palette.DIM),
        Text(f"{text.count(row.n):>6}", palette.DIM),
    )
