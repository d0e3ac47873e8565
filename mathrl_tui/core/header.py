"""The top line of each screen: all screens with their keys.

The widest form that fits is used.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mathrl_tui.core import palette
from mathrl_tui.core.spans import Row

_BRAND: Row = [(" mathrl ", f"bold {palette.GROUND} on {palette.ACCENT}"), (" ", "")]


def header(names: Sequence[str], here: str, width: int, trouble: str, home: str) -> Row:
    """Return the widest header that fits into `width` cells.

    The forms are: spaced names and the home, names alone, or the current name and the other keys.
    `trouble` replaces the home and, if it needs the space, the other screens.
    """
    roomy = [*_BRAND, *_entries(names, here, names, " ")]
    if trouble:
        notice = (f"  ! {trouble}", palette.WARN)
        forms = [[*roomy, notice], [*_BRAND, *_entry(names.index(here) + 1, here, True), notice]]
    else:
        forms = [[*roomy, (f"   {home}", palette.FAINT)], roomy]
        forms += [_entries(names, here, names, ""), _entries(names, here, (here,), "")]
    return next((form for form in forms if _cells(form) <= width), forms[-1])


def _entries(names: Sequence[str], here: str, named: Collection[str], behind: str) -> Row:
    """Return the key of each screen, with the name of those in `named`.

    `behind` follows each of them.
    """
    row: Row = []
    for place, name in enumerate(names, 1):
        row += [*_entry(place, name if name in named else "", name == here), (behind, "")]
    return row


def _entry(place: int, name: str, here: bool) -> Row:
    """Return one screen's key and name; the current screen is highlighted."""
    style = f"bold {palette.INK} underline" if here else palette.DIM
    return [
        (f" {place}", f"bold {palette.ACCENT}" if here else palette.ACCENT),
        (" " if name else "", ""),
        (name.capitalize(), style),
    ]


def _cells(row: Row) -> int:
    return sum(len(words) for words, _ in row)
