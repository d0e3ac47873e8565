"""Rows of labelled keys that fit a width by shorter words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mathrl_tui.core import palette
from mathrl_tui.core.spans import Row


@dataclass(frozen=True, slots=True)
class KeyHint:
    """A key with its words, from the longest form to the shortest."""

    key: str
    forms: tuple[str, ...]


def fitted(parts: Sequence[KeyHint], width: int) -> Row:
    """Return the parts in one row of at most `width` cells.

    Each part gets its second form before any gets its third; the part that saves most comes first.
    The last parts are left out first.
    """
    kept = list(parts)
    forms = [0] * len(kept)
    while kept and _cells(kept, forms) > width:
        longer = [place for place, part in enumerate(kept) if forms[place] < len(part.forms) - 1]
        if longer:
            forms[min(longer, key=lambda place: (forms[place], -_gain(kept[place], forms[place])))] += 1
        else:
            kept.pop()
            forms.pop()
    row: Row = []
    for part, form in zip(kept, forms, strict=True):
        row += [(f" {part.key} ", f"bold {palette.ACCENT}"), (part.forms[form], palette.INK), (" ", "")]
    return row


def _gain(part: KeyHint, form: int) -> int:
    """Return the cells that the next form of a part saves."""
    return len(part.forms[form]) - len(part.forms[form + 1])


def _cells(parts: Sequence[KeyHint], forms: Sequence[int]) -> int:
    return sum(len(part.key) + len(part.forms[form]) + 3 for part, form in zip(parts, forms, strict=True))
