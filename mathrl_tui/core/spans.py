"""Coloured text: functions build it, widgets draw it."""

from __future__ import annotations

# Text, style.
Span = tuple[str, str]
Row = list[Span]


def cut(row: Row, width: int, mark: str = "") -> Row:
    """Return the row, cut to `width` cells; `mark` ends a part that is cut."""
    kept: Row = []
    for words, style in row:
        if width <= 0:
            break
        piece = words if len(words) <= width else words[: max(width - len(mark), 0)] + mark
        kept.append((piece, style))
        width -= len(piece)
    return kept
