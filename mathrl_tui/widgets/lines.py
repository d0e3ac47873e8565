"""A widget for rows of coloured spans that sends only changed cells.

Sending a whole chart costs 20 to 100 KiB a frame over SSH; its changed cells cost one or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat, zip_longest

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from mathrl_tui.core.spans import Row


class Lines(Widget):
    """Rows of (text, style) spans, drawn from the top left corner."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._rows: list[Row] = []

    @property
    def plain(self) -> str:
        """Return the shown text without colours."""
        return "\n".join("".join(part for part, _ in row).rstrip() for row in self._rows)

    def show(self, rows: Sequence[Row]) -> None:
        """Replace the rows; cells that did not change are not sent again."""
        before, self._rows = self._rows, list(rows)
        missing: Row = []
        for y, (old, new) in enumerate(zip_longest(before, self._rows, fillvalue=missing)):
            if old != new:
                first, last = changed_cells(old, new)
                self.refresh(Region(first, y, max(last - first, 1), 1))

    def render_line(self, y: int) -> Strip:
        """Return line `y` as Textual draws it."""
        ground = self.rich_style
        row = self._rows[y] if y < len(self._rows) else ()
        strip = Strip([Segment(text, ground + Style.parse(style)) for text, style in row])
        return strip.adjust_cell_length(self.size.width, ground)


def changed_cells(old: Row, new: Row) -> tuple[int, int]:
    """Return the first differing cell of two rows, and one past the last.

    Returns: (0, 0) if they are equal.
    """
    before, after = _cells(old), _cells(new)
    if before == after:
        return 0, 0
    length, shorter = max(len(before), len(after)), min(len(before), len(after))
    first = next((index for index in range(shorter) if before[index] != after[index]), shorter)
    if len(before) != len(after):
        return first, length
    return first, next(index for index in range(length, 0, -1) if before[index - 1] != after[index - 1])


def _cells(row: Row) -> Row:
    """Split a row into cells.

    A wide character is in the first of its two cells, a combining one in the cell before it.
    """
    cells: Row = []
    for text, style in row:
        if cell_len(text) == len(text) and text.isprintable():
            cells += zip(text, repeat(style))
            continue
        for character in text:
            width = cell_len(character)
            if width:
                cells += [(character, style), *[("", character)] * (width - 1)]
            elif cells:
                cells[-1] = (cells[-1][0] + character, cells[-1][1])
    return cells
