"""What the screens share that show one table of a run: a heading above it, and words on the row under the cursor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.widgets import DataTable, Static

from mathrl_tui.core import text
from mathrl_tui.screens.base import ConsoleScreen
from mathrl_tui.widgets.keyed_table import Cell, KeyedTable
from mathrl_tui.widgets.lines import Lines

NO_RUN = "[b]No run is chosen.[/b]\n\nPress [b]1[/b] and choose one."

WIDE = 120  # cells from which a table has all its columns
Table = tuple[Sequence[str], Mapping[str, Sequence[Cell]]]  # titles, and cells by key


class TableScreen(ConsoleScreen):
    """Subclasses `read` what they show, and say in `words` what the row under the cursor means."""

    def body(self) -> ComposeResult:
        yield Lines(id="heading")
        yield KeyedTable(id="table")
        yield Static("", id="empty")
        yield Static("", id="words", markup=False)

    @abstractmethod
    def words(self, key: str) -> Text:
        """What the row `key` says."""

    @property
    def cursor(self) -> str:
        """Key of the row under the cursor; empty where there is none."""
        return self.query_one(KeyedTable).chosen or ""

    def show_table(self, table: Table) -> None:
        """Shows the table, and words on its row."""
        shown = self.query_one(KeyedTable)
        shown.show(*table)
        shown.display = self.query_one("#words").display = True
        self.query_one("#empty").display = False
        if not self.focused:
            shown.focus()
        self._show_words()

    def show_emptiness(self, words: str) -> None:
        """Says what to do instead of showing an empty table."""
        self.query_one("#empty", Static).update(text.flowing(words))
        self.query_one("#empty").display = True
        self.query_one(KeyedTable).display = self.query_one("#words").display = False

    @on(DataTable.RowHighlighted)
    def _show_words(self) -> None:
        if self.cursor:
            self.query_one("#words", Static).update(self.words(self.cursor))
