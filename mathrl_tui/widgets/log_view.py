"""A scrollable view of rows of spans.

It renders visible rows only, and stays at the end if it is there.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mathrl_tui.core.spans import Row


class LogView(ScrollView, can_focus=True):
    """A log view.

    Scrolling up stops following the newest line; scrolling to the end starts it again.
    """

    def __init__(self, *, follow: bool = True, id: str | None = None) -> None:  # noqa: A002
        """Create the view.

        With `follow` it stays at the newest line, otherwise it starts at the first.
        """
        super().__init__(id=id)
        self._follow = follow
        self._rows: list[Row] = []

    @property
    def following(self) -> bool:
        """Return True while the newest line is visible."""
        return self.scroll_offset.y >= self.max_scroll_y

    @property
    def plain(self) -> str:
        """Return all lines without colours."""
        return "\n".join("".join(part for part, _ in row).rstrip() for row in self._rows)

    def show(self, rows: Sequence[Row]) -> None:
        """Show `rows`; nothing is sent if they did not change."""
        if list(rows) == self._rows:
            return
        following = self._follow and self.following
        self._rows = list(rows)
        width = max((sum(map(_cells, (part for part, _ in row))) for row in self._rows), default=0)
        self.virtual_size = Size(width, len(self._rows))
        self.refresh(Region(0, 0, *self.size))
        if following:
            self.follow()

    def follow(self) -> None:
        """Scroll to the newest line."""
        self.call_after_refresh(self.scroll_end, animate=False, x_axis=False)

    def render_line(self, y: int) -> Strip:
        """Return visible line `y`, scrolled, as Textual draws it."""
        left, top = self.scroll_offset
        place = top + y
        ground = self.rich_style
        row = self._rows[place] if place < len(self._rows) else ()
        strip = Strip([Segment(text, ground + Style.parse(style)) for text, style in row])
        return strip.crop_extend(left, left + self.size.width, ground)


def _cells(words: str) -> int:
    """Return the number of cells of `words`.

    `cell_len` takes 0.1 s for a log of 5,000 lines.
    """
    return len(words) if words.isascii() else cell_len(words)
