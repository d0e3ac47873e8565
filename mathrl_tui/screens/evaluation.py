"""Evaluation of each arm on each task, with intervals.

It shows rate, pass@k, majority, and problems of completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on
from textual.widgets import DataTable

from mathrl_tui import actions
from mathrl_tui.core import intervals, measure, palette, rates, text
from mathrl_tui.core.completions import CompletionChoice
from mathrl_tui.core.intervals import Scale
from mathrl_tui.core.palette import Look
from mathrl_tui.core.run import RunSnapshot
from mathrl_tui.screens.results import ResultsScreen, axis_cells
from mathrl_tui.screens.table import Table
from mathrl_tui.widgets.keyed_table import TableCell
from store.results import EvalSummary, Measure

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import HomeData

# Minimum cells of a plotted interval; with less space the intervals are numbers only.
_LEAST_PICTURE = 11
# Cells between two columns.
_APART = 2
_ARM = 12
_LEAST_TASK = 9
# Fraction of completions cut off or without an answer from which the cell is highlighted.
_AMISS = 0.05
_PERPLEXITY = "Perplexity of whole documents, with the interval over them. Lower is better."


class EvaluationScreen(ResultsScreen[EvalSummary]):
    """Task × prompt form × arm; perplexities have their own axis."""

    NAME = actions.EVALUATION
    INTERVAL = 1.0
    BINDINGS = actions.bindings(actions.EVALUATION)
    EMPTY = """[b]Nothing has been evaluated in this run yet.[/b]

The stage [b]eval[/b] evaluates every arm on the held-out questions. It is the last stage of the plan;
to start it in this run, go to the run ([b]2[/b]) and press [b]a[/b]."""

    def __init__(self) -> None:
        super().__init__()
        # By task.
        self._forms: dict[str, str] = {}

    def found(self, home_data: HomeData, run_id: str) -> Sequence[EvalSummary]:
        """Return the run's evaluations; called on the reader's thread."""
        return home_data.evaluations(run_id)

    def keyed(self, found: Sequence[EvalSummary], run: RunSnapshot) -> dict[str, EvalSummary]:
        """Return the evaluations in display order, by `task/arm`."""
        self._forms = rates.forms((row.task for row in found), run.template)
        return {f"{row.task}/{row.arm}": row for row in rates.ordered(found, run.arms)}

    def table(self, run: RunSnapshot) -> Table:
        """Return the evaluations as a table with intervals."""
        rows, looks = list(self.rows.values()), palette.arms(run.arms)
        layout = self._layout(rows)
        groups = intervals.by_measure(rows)
        scales = {kind: intervals.value_scale(group) for kind, group in groups.items()}
        above = rows[0].measure
        titles = layout.titles(scales[above], above)
        cells: dict[str, Sequence[TableCell]] = {}
        for key, row in self.rows.items():
            scale = scales[row.measure]
            if row.measure != above:
                above = row.measure
                named = layout.axis_titles(scale, above)
                cells[f"axis of {above}"] = axis_cells(named, len(titles) - len(named))
            look = looks.get(row.arm, palette.state("?"))
            cells[key] = layout.cells(row, self._forms[row.task], scale, look)
        return titles, cells

    def _layout(self, rows: Sequence[EvalSummary]) -> _Layout:
        """Return the needed columns, and the space for plots.

        Without plots, the space is for task names.
        """
        prompted, sampled = any(self._forms.values()), any(rates.samples(row) > 1 for row in rows)
        suite = any(row.window_tokens is not None for row in rows)
        room = min(max(self.size.width - 126 - 16 * prompted - 22 * sampled - 21 * suite, 0), 70)
        if room >= _LEAST_PICTURE:
            return _Layout(prompted, sampled, suite, room, task=40, arm=40)
        prompt = max(map(len, self._forms.values())) + _APART if prompted else 0
        arm = min(max(len(row.arm) for row in rows), _ARM)
        # A mark stands before the arm, and the scrollbar after all columns.
        others = prompt + 2 + arm + _APART + _in_sight(rows) + 1
        task = self.size.width - others - _APART
        return _Layout(prompted, sampled, suite, 0, task=max(min(task, 16), _LEAST_TASK), arm=arm)

    def words(self, key: str) -> Text:
        """Describe the evaluation with `key`, which is `task/arm`.

        The heading of the perplexities has another key: it gives an explanation of perplexity.
        """
        chosen = self.rows.get(key)
        if chosen is None:
            return Text(_PERPLEXITY, palette.DIM)
        first, *others = rates.words(chosen, self._forms[chosen.task])
        return Text(f"{first}.\n", f"bold {palette.INK}").append("\n".join(others), palette.DIM)

    @on(DataTable.RowSelected)
    def action_read(self) -> None:
        """Open the completions of the row."""
        if chosen := self.chosen:
            self.console.open_samples(CompletionChoice(chosen.arm, chosen.task))

    def action_copy(self) -> None:
        """Copy the table as Markdown."""
        self.console.copy(rates.markdown(list(self.rows.values())), "the table as Markdown")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Columns of the table.

    They depend on prompt forms, several samples and suite tasks. `room` is the cells for the plot (0: none).
    Names of tasks and arms are cut to `task` and `arm` cells, so that rates and intervals stay visible.
    """

    prompted: bool
    sampled: bool
    suite: bool
    room: int
    task: int
    arm: int

    def titles(self, scale: Scale, kind: Measure) -> list[str]:
        """Return the column titles; the first measure's axis is over the plots."""
        return [
            *("task", *(["prompt"] if self.prompted else []), "arm", "rate", "95 % interval"),
            *([intervals.value_header(scale, self.room, kind)] if self.room else []),
            "n",
            *(("pass@k", "majority") if self.sampled else ()),
            *("cut off", "no answer"),
            *(("tokens", "step") if self.room else ()),
            *(("window", "prompts cut") if self.suite else ()),
        ]

    def axis_titles(self, scale: Scale, kind: Measure) -> list[str]:
        """Return the titles over the rows of another measure, up to its axis."""
        header = [intervals.value_header(scale, self.room, kind)] if self.room else []
        return [kind, *([""] if self.prompted else []), "", "lower is", "better", *header]

    def cells(self, row: EvalSummary, form: str, scale: Scale, look: Look) -> tuple[TableCell, ...]:
        """Return the cells of a row."""
        task = Text(text.ends(rates.stem(row.task), self.task), palette.INK)
        picture = intervals.interval(row.low, row.rate, row.high, scale, look, self.room) if self.room else []
        return (
            *(task, *([Text(form, palette.ACCENT)] if self.prompted else [])),
            Text(f"{look.mark} {text.ends(row.arm, self.arm)}", look.colour),
            *_rate_cells(row),
            *([Text.assemble(*picture)] if self.room else []),
            Text(f"{text.count(row.n):>6}", palette.DIM),
            *(_pass_cells(row) if self.sampled else ()),
            *_problem_cells(row),
            *(_sample_cells(row) if self.room else ()),
            *(_window_cells(row) if self.suite else ()),
        )


def _in_sight(rows: Sequence[EvalSummary]) -> int:
    """Return the cells of rate, interval and n, visible at 80 columns."""
    rate = max(9, *(len(measure.value(row.rate, row.measure)) for row in rows))
    interval = max(13, *(len(measure.ends(row.low, row.high, row.measure)) for row in rows))
    return rate + interval + 6 + 3 * _APART


def _rate_cells(row: EvalSummary) -> tuple[TableCell, ...]:
    return (
        Text(f"{measure.value(row.rate, row.measure):>9}", f"bold {palette.INK}"),
        Text(f"{measure.ends(row.low, row.high, row.measure):>13}", palette.INK),
    )


def _pass_cells(row: EvalSummary) -> tuple[TableCell, ...]:
    """Return pass@k with its k and the majority's rate.

    Returns: dashes with one sample per question.
    """
    several, (best, majority) = rates.samples(row), rates.sampled(row)
    if several == 1:
        return (Text(f"{text.NOTHING:>11}", palette.DIM), Text(f"{text.NOTHING:>8}", palette.DIM))
    return (
        Text(f"{f'@{several}':>3} {best or text.NOTHING:>7}", palette.INK),
        Text(f"{majority or text.NOTHING:>8}", palette.INK),
    )


def _problem_cells(row: EvalSummary) -> tuple[TableCell, ...]:
    """Return the fractions of completions cut off and without an answer."""
    return _share(row.cut_off, row, 7), _share(row.no_answer, row, 9)


def _share(count: int | None, row: EvalSummary, width: int) -> Text:
    share = rates.share(count, row)
    style = palette.WARN if share is not None and share > _AMISS else palette.DIM
    return Text(f"{text.percent(share):>{width}}", style)


def _sample_cells(row: EvalSummary) -> tuple[TableCell, ...]:
    tokens = text.NOTHING if row.mean_tokens is None else f"{row.mean_tokens:.1f}"
    return Text(f"{tokens:>6}", palette.DIM), Text(f"{row.step:>5}", palette.DIM)


def _window_cells(row: EvalSummary) -> tuple[TableCell, ...]:
    """Return a suite task's window, and the fraction of prompts cut."""
    share = None if row.prompts_cut is None else row.prompts_cut / row.n
    style = palette.WARN if share else palette.DIM
    return Text(f"{text.count(row.window_tokens):>6}", palette.DIM), Text(f"{text.percent(share):>11}", style)
