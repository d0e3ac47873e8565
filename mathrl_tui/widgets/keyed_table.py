"""A DataTable that updates only changed cells, by key.

It is never cleared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.widgets import DataTable

TableCell = Text | str


class KeyedTable(DataTable[TableCell]):
    """Table with rows by key.

    The cursor stays on its row when others are added or removed.
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, cursor_type="row", cursor_foreground_priority="renderable")
        self._shown: dict[str, tuple[TableCell, ...]] = {}
        self._titles: tuple[str, ...] = ()
        # The longest cell of each column.
        self._longest: list[int] = []

    @property
    def chosen(self) -> str | None:
        """Return the key of the row under the cursor; None without rows."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    def show(self, titles: Sequence[str], rows: Mapping[str, Sequence[TableCell]]) -> None:
        """Show `rows` under the columns `titles`, in the given order."""
        before = self.chosen
        rebuilt = tuple(titles) != self._titles
        if rebuilt:
            self._rebuild(tuple(titles))
        for key in self._shown.keys() - rows.keys():
            self.remove_row(key)
            del self._shown[key]
        longest = [max(map(len, column)) for column in zip(self._titles, *rows.values(), strict=True)]
        if any(new > old for new, old in zip(longest, self._longest, strict=True)):
            # Discard the lines that were cached before the columns grew.
            self.call_after_refresh(self.notify_style_update)
        self._longest = [max(pair) for pair in zip(longest, self._longest, strict=True)]
        for key, cells in rows.items():
            self._show_row(key, tuple(_literal(cell) for cell in cells))
        rank = {key: place for place, key in enumerate(rows)}
        if [row.key.value for row in self.ordered_rows] != list(rows):
            self._reorder(rank)
        if rebuilt and before is not None:
            self.choose(before)

    def choose(self, key: str) -> None:
        """Move the cursor to the row `key`, if it exists."""
        if key in self._shown:
            self.move_cursor(row=self.get_row_index(key))

    def _rebuild(self, titles: tuple[str, ...]) -> None:
        self.clear(columns=True)
        self._shown.clear()
        self._titles = titles
        self._longest = [0] * len(titles)
        for place, title in enumerate(titles):
            # Titles can be equal, such as two run names that were cut.
            self.add_column(Text(title), key=str(place))

    def _show_row(self, key: str, cells: tuple[TableCell, ...]) -> None:
        before = self._shown.get(key)
        self._shown[key] = cells
        if before is None:
            self.add_row(*cells, key=key)
            return
        for place, (old, new) in enumerate(zip(before, cells, strict=True)):
            if old != new:
                # A new width makes the table draw all its cells again.
                self.update_cell(key, str(place), new, update_width=len(new) > len(old))

    def _reorder(self, rank: Mapping[str, int]) -> None:
        """Sort the rows by `rank`.

        `sort` requests each row's key once, in insertion order.
        """
        chosen = self.chosen
        ranks = iter([rank[str(key.value)] for key in self.rows])
        self.sort(key=lambda _: next(ranks))
        if chosen is not None:
            self.choose(chosen)


def _literal(cell: TableCell) -> Text:
    """Return `cell` as text: DataTable reads strings as markup."""
    return cell if isinstance(cell, Text) else Text(cell)
