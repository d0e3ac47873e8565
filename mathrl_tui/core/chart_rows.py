"""Rows of a chart: messages in its place, and rows of an exact size."""

from __future__ import annotations

from mathrl_tui.core import palette
from mathrl_tui.core.spans import Row, cut


def note(message: str, width: int, height: int) -> list[Row]:
    """Return a sentence in the middle of a place of `height` rows."""
    above = max((height - 1) // 2, 0)
    return [*([[]] * above), [(message[:width].center(width), palette.DIM)]]


def padded(rows: list[Row], width: int, height: int) -> list[Row]:
    """Pad or cut to exactly `height` rows of `width` cells."""
    full = (rows + [[] for _ in range(height)])[:height]
    return [_filled(row, width) for row in full]


def _filled(row: Row, width: int) -> Row:
    length = sum(len(part) for part, _ in row)
    if length < width:
        return [*row, (" " * (width - length), palette.INK)]
    return row if length == width else cut(row, width)
