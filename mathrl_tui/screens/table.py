"""Base of the screens with one table of a run.

A heading is above it, and text for the selected row below.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.widgets import DataTable, Static

from mathrl_tui.core import text
from mathrl_tui.screens.base import ConsoleScreen
from mathrl_tui.widgets.keyed_table import KeyedTable, TableCell
from mathrl_tui.widgets.lines import Lines

NO_RUN = "[b]No run is chosen.[/b]\n\nPress [b]1[/b] and choose one."

# Cells from which a table has all its columns.
WIDE = 120
# Titles, and cells by key.
Table = tuple[Sequence[str], Mapping[str, Sequence[TableCell]]]


class TableScreen(ConsoleScreen):
    """Screen with one table.

    Subclasses implement `read` and `words`, the text for the selected row.
    """

    def body(self) -> ComposeResult:
        """Yield the table and the text for its selected row."""
        yield Lines(id="heading")
        yield KeyedTable(id="table")
        yield Static("", id="empty")
        yield Static("", id="words", markup=False)

    @abstractmethod
    def words(self, key: str) -> Text:
        """Return the text below the table for the row with `key`.

        Subclasses implement it. A heading row has a key too.
        """

    @property
    def cursor(self) -> str:
        """Return the key of the row under the cursor; empty without rows."""
        return self.query_one(KeyedTable).chosen or ""

    def show_table(self, table: Table) -> None:
        """Show the table, and the text for its selected row."""
        shown = self.query_one(KeyedTable)
        shown.show(*table)
        shown.display = self.query_one("#words").display = True
        self.query_one("#empty").display = False
        if not self.focused:
            shown.focus()
        self._show_words()

    def show_emptiness(self, words: str) -> None:
        """Show advice instead of an empty table."""
        self.query_one("#empty", Static).update(text.flowing(words))
        self.query_one("#empty").display = True
        self.query_one(KeyedTable).display = self.query_one("#words").display = False

    @on(DataTable.RowHighlighted)
    def _show_words(self) -> None:
        if self.cursor:
            self.query_one("#words", Static).update(self.words(self.cursor))
