"""Which runs the list shows: the filter, and the line above the list.

filter text ─▶ Selection ─▶ shown(lines) ─▶ run_table ─▶ cells
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mathrl_tui.core import palette, run_filter, run_table
from mathrl_tui.core.run_facts import facts
from mathrl_tui.core.run_filter import Every, Expression, Facts, FilterError
from mathrl_tui.core.spans import Row, cut
from mathrl_tui.core.workspace import Workspace

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import RunLine

# Run → its settings by name (`differences.settings`).
AllSettings = Mapping[str, Sequence[tuple[str, str]]]


class Selection:
    """The current filter.

    After a filter that is not understood, the last good one stays."""

    def __init__(self) -> None:
        self.text = ""
        # What is not understood; empty if all is.
        self.fault = ""
        self._expression: Expression = Every(())
        # The newest one, while its names are not checked.
        self._unchecked: Expression | None = None
        self._facts: dict[str, tuple[RunLine, Workspace, Facts]] = {}

    @property
    def active(self) -> bool:
        """Return True if the filter leaves out some runs, or could."""
        return (self._unchecked or self._expression) != Every(())

    def set(self, words: str) -> None:
        """Set the filter to `words`, unless they are not understood."""
        self.text, self.fault = words, ""
        try:
            self._unchecked = run_filter.parse(words)
        except FilterError as error:
            self.fault = str(error)

    def matching(
        self, lines: Sequence[RunLine], settings: AllSettings, workspace: Workspace, now: float
    ) -> list[RunLine]:
        """Return the lines that pass the filter; `now` is in Unix seconds."""
        if not self.active:
            self._expression, self._unchecked = Every(()), None
            return list(lines)
        task = run_table.shared_task(lines)
        found = [self._of(line, settings, workspace, task, now) for line in lines]
        if self._unchecked is not None:
            try:
                run_filter.check(self._unchecked, found)
                self._expression = self._unchecked
            except FilterError as error:
                self.fault = str(error)
            self._unchecked = None
        return [
            line for line, one in zip(lines, found, strict=True) if run_filter.matches(self._expression, one)
        ]

    def _of(self, line: RunLine, settings: AllSettings, workspace: Workspace, task: str, now: float) -> Facts:
        run = line.summary.run
        known = self._facts.get(run)
        if known is None or known[0] is not line or known[1] is not workspace:
            found = facts(line, settings.get(run, ()), workspace, task, now)
            known = self._facts[run] = line, workspace, found
        return known[2]


def heading(counts: tuple[int, int, int], selection: Selection, workspace: Workspace, width: int) -> Row:
    """Return the line above the list: counts, filter with its fault, order.

    `counts` are those of the shown, of all and of the hidden runs.
    """
    shown, count, hidden = counts
    marked, sort = len(workspace.marked), workspace.sort
    runs = f" {shown} of {count} runs" if shown != count else f" {count} runs"
    row: Row = [(runs, f"bold {palette.INK}")]
    if marked:
        row.append((f", {marked} marked", palette.ACCENT))
    if hidden:
        row.append((f", {hidden} hidden", palette.DIM))
    if selection.text:
        row.append((f"  filter {selection.text}", palette.ACCENT))
    if selection.fault:
        row.append((f"  {selection.fault}", palette.WARN))
    elif not selection.text:
        now = sort or run_table.DEFAULT_SORT
        order = "descending" if now.startswith("-") else "ascending"
        row.append((f"  by {now.removeprefix('-')}, {order}", palette.DIM))
    return cut(row, width, "…")
