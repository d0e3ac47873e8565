"""Settings of a run and their differences from another run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mathrl_tui import actions
from mathrl_tui.core import differences, palette, text
from mathrl_tui.core.differences import Setting
from mathrl_tui.core.spans import Row
from mathrl_tui.screens.table import NO_RUN, Table, TableScreen
from mathrl_tui.widgets.keyed_table import TableCell

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import HomeData

_ALIKE = "[b]No setting differs.[/b]\n\nPress [b]o[/b] for another run, or [b]f[/b] for all settings."


class ConfigScreen(TableScreen):
    """Settings of a run, next to those of another run.

    The other run is the first marked one, else the previous one.
    """

    NAME = actions.CONFIG
    INTERVAL = 5.0
    BINDINGS = actions.bindings(actions.CONFIG)

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, Setting] = {}
        self._others: list[str] = []
        self._other = ""
        self._everything = False

    async def read(self) -> None:
        """Read the settings of both runs and show them."""
        run_id = await self.chosen_run()
        marked = (run for run in self.console.workspace.marked if run != run_id)
        wanted = self.console.other_id or next(marked, "")
        if not run_id:
            self.show_emptiness(NO_RUN)
            return
        self._others, self._other, found = await self.ask(
            lambda home_data: _compared(home_data, run_id, wanted)
        )
        shown = found if self._everything or not self._other else [one for one in found if one.differs]
        self._rows = {one.key: one for one in shown}
        self._show_heading(run_id, sum(one.differs for one in found), len(found))
        if not shown:
            self.show_emptiness(_ALIKE)
            return
        self.show_table(self._table(run_id))

    def _show_heading(self, run_id: str, differing: int, count: int) -> None:
        row: Row = [(f" {run_id}", f"bold {palette.INK}")]
        if self._other:
            row += [(" against ", palette.DIM), (self._other, f"bold {palette.INK}")]
            row.append((f"  {differing} of {count} settings differ", palette.ACCENT))
        else:
            row.append((f"  {count} settings; no other run to compare with", palette.DIM))
        self.show_lines("#heading", [row])

    def _table(self, run_id: str) -> Table:
        room = (self.size.width - 40) // 2
        others = [text.run_name(self._other, room)] if self._other else []
        cells = {key: _cells(one, room, bool(self._other)) for key, one in self._rows.items()}
        return ["setting", text.run_name(run_id, room), *others], cells

    def words(self, key: str) -> Text:
        """Return the meaning and the full values of a setting.

        `key` is its dotted name: `grpo.steps`. An unknown one gives empty text.
        """
        one = self._rows.get(key)
        if one is None:
            return Text()
        words = Text(f"{key}  ", f"bold {palette.INK}").append(differences.meaning(key), palette.DIM)
        words.append(f"\n{self.console.run_id}: {one.mine}", palette.INK)
        if self._other:
            words.append(f"\n{self._other}: {one.theirs}", palette.INK)
        return words

    def action_next_run(self, by: int) -> None:
        """Select the run `by` places further as the other run."""
        if self._others:
            place = self._others.index(self._other) if self._other in self._others else -by
            self.console.other_id = self._others[(place + by) % len(self._others)]
            self.read_soon()

    def action_everything(self) -> None:
        """Switch between all settings and those that differ."""
        self._everything = not self._everything
        self.read_soon()

    def action_copy(self) -> None:
        """Copy the table as Markdown."""
        lines = [f"| setting | {self.console.run_id} | {self._other} |", "|---|---|---|"]
        lines += [f"| {one.key} | {one.mine} | {one.theirs} |" for one in self._rows.values()]
        self.console.copy("\n".join(lines), "the table as Markdown")


def _compared(home_data: HomeData, run_id: str, wanted: str) -> tuple[list[str], str, list[Setting]]:
    """Return the candidates, the other run (empty: none), and the settings."""
    runs = [line.summary for line in home_data.runs()]
    others = [one.run for one in runs if one.run != run_id]
    other = wanted if wanted in others else differences.nearest(runs, run_id)
    mine = home_data.store.config(run_id)
    return others, other, differences.compared(mine, home_data.store.config(other) if other else mine)


def _cells(one: Setting, room: int, compared: bool) -> tuple[TableCell, ...]:
    look = palette.WARN if one.differs else palette.DIM
    cells: tuple[TableCell, ...] = (
        Text(text.tail(one.key, 32), f"bold {palette.INK}" if one.differs else palette.INK),
        Text(text.clip(one.mine, room), look if compared else palette.INK),
    )
    return (*cells, Text(text.clip(one.theirs, room), look)) if compared else cells
