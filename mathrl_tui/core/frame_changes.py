"""Frames for the terminal, reduced to the cells that changed.

    Textual's frame ─▶ FrameChanges.reduced ─▶ moves, changes of style, and the changed cells

Textual sends each changed region whole, and each piece of text with its full style. Over a slow line that costs
20 to 60 KB for a key. A frame has only moves, styles and text; any other output passes unchanged, and the screen
is then unknown, so that the next frames are sent whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat

from rich.cells import cell_len

_TOKEN = re.compile(r"\x1b\[(\d+);(\d+)H|\x1b\[([\d;]*)m|(\n)|([^\x1b\n]+)|(\x1b)")
_IS_FRAME = re.compile(r"\x1b\[\d+;\d+H")
# Output that does not change the screen: the ends of a synchronised update, and the bell.
_HARMLESS = frozenset({"\x1b[?2026h", "\x1b[?2026l", "\x07"})
# Characters that are one cell wide in all terminals. Others may move what follows them.
_CERTAIN = re.compile(
    "[\\x20-\\x7e\\xa1-\\xac\\xae-\\u02ff\\u0391-\\u03ff\\u0410-\\u044f\\u2010-\\u2027\\u2030-\\u205e"
    "\\u2070-\\u209c\\u2190-\\u22ff\\u23ce\\u2423\\u2500-\\u25fc\\u2605\\u2606\\u2713\\u2717\\u271a"
    "\\u2800-\\u28ff]*\\Z"
)
# Cells that are sent again rather than jumped over.
_GAP = 4
_OFF = {"1": "22", "2": "22", "3": "23", "4": "24", "5": "25", "7": "27", "8": "28", "9": "29"}

# A character and its style: the parameters of SGR, without those of a blank's invisible colour.
ScreenCell = tuple[str, str]


class FrameChanges:
    """The screen of a terminal as far as it is known."""

    def __init__(self) -> None:
        self._rows: dict[int, list[ScreenCell | None]] = {}
        # Place of the cursor, and the style in force; (0, 0) if the place is unknown.
        self._at = (0, 0)
        self._style = ""

    def forget(self) -> None:
        """Treat the whole screen as unknown, so that all cells are sent again."""
        self._rows.clear()

    def reduced(self, output: str) -> str:
        """Reduce `output` to the cells that differ from the known screen.

        The screen is then updated. Output that is not a frame is returned unchanged.
        """
        if not _IS_FRAME.match(output):
            if output not in _HARMLESS:
                self.forget()
            return output
        self._at, self._style = (0, 0), ""
        sent: list[str] = []
        y, x, style, pending = 1, 1, "", []  # type: int, int, str, list[ScreenCell]
        start = 1
        for move_y, move_x, sgr, line, words, other in _TOKEN.findall(output):
            if other:
                self.forget()
                return output
            if words:
                if _CERTAIN.match(words):
                    pending += _cells(words, style)
                    x += len(words)
                    continue
                self._put(sent, y, start, pending)
                self._send_uncertain(sent, y, x, words, style)
                x += cell_len(words)
            elif move_y or line:
                self._put(sent, y, start, pending)
                y, x = (int(move_y), int(move_x)) if move_y else (y + 1, x)
            else:
                style = "" if sgr in ("", "0") else sgr
                continue
            start, pending = x, []
        self._put(sent, y, start, pending)
        self._change_style(sent, "")
        self._move(sent, y, x)
        return "".join(sent)

    def _put(self, sent: list[str], y: int, x: int, cells: Sequence[ScreenCell]) -> None:
        """Send those of `cells`, from place `y`, `x`, that changed."""
        if not cells:
            return
        row = self._rows.setdefault(y, [])
        end = x + len(cells)
        if len(row) < end:
            row += [None] * (end - len(row))
        before = row[x:end]
        if before == cells:
            return
        row[x:end] = cells
        changed = [place for place, (old, new) in enumerate(zip(before, cells, strict=True)) if old != new]
        last = changed[0] - 1
        for place in changed:
            gap = cells[last + 1 : place]
            if 0 < len(gap) <= _GAP and all(
                style == self._style and len(c.encode()) == 1 for c, style in gap
            ):
                sent += [character for character, _ in gap]
                self._at = y, x + place
            last = place
            self._move(sent, y, x + place)
            character, style = cells[place]
            self._change_style(sent, style)
            sent.append(character)
            self._at = y, x + place + 1

    def _send_uncertain(self, sent: list[str], y: int, x: int, words: str, style: str) -> None:
        """Send text of uncertain width; its cells are then unknown."""
        self._at = (0, 0)
        self._move(sent, y, x)
        self._change_style(sent, style)
        sent.append(words)
        self._at = (0, 0)
        row = self._rows.setdefault(y, [])
        end = x + cell_len(words) + 1
        if len(row) < end:
            row += [None] * (end - len(row))
        row[x:end] = [None] * (end - x)

    def _move(self, sent: list[str], y: int, x: int) -> None:
        """Move the cursor, relative to its place if that is shorter."""
        at_y, at_x = self._at
        if (y, x) == self._at:
            return
        if y == at_y and x > at_x:
            gap = x - at_x
            sent.append("\x1b[C" if gap == 1 else f"\x1b[{gap}C")
        else:
            sent.append(f"\x1b[{y};{x}H")
        self._at = y, x

    def _change_style(self, sent: list[str], style: str) -> None:
        if style != self._style:
            sent.append(_transition(self._style, style))
            self._style = style


def _cells(words: str, style: str) -> list[ScreenCell]:
    """Return the cells of text; a blank has no visible colour of its own."""
    if " " not in words:
        return list(zip(words, repeat(style)))
    blank = (" ", _blank(style))
    return [blank if character == " " else (character, style) for character in words]


@lru_cache(maxsize=4096)
def _parsed(style: str) -> tuple[frozenset[str], str, str]:
    """Return the flags, the foreground and the background of a style."""
    codes = style.split(";") if style else []
    flags, colours = set(), {"3": "", "4": ""}
    place = 0
    while place < len(codes):
        code = codes[place]
        size = 1
        if code in ("38", "48"):
            size = 5 if codes[place + 1 : place + 2] == ["2"] else 3
            colours[code[0]] = ";".join(codes[place : place + size])
        elif len(code) >= 2 and code[:-1] in ("3", "4", "9", "10"):
            colours["3" if code[:-1] in ("3", "9") else "4"] = code
        else:
            flags.add(code)
        place += size
    return frozenset(flags), colours["3"], colours["4"]


@lru_cache(maxsize=4096)
def _blank(style: str) -> str:
    """Return the part of a style that a blank shows."""
    flags, _, ground = _parsed(style)
    if flags - {"1", "2", "3"}:
        # Underlined, reversed or crossed out: the foreground is visible.
        return style
    return ground


@lru_cache(maxsize=16384)
def _transition(before: str, after: str) -> str:
    """Return the shortest sequence from one style to another."""
    old, new = _parsed(before), _parsed(after)
    whole = f"\x1b[0;{after}m" if after else "\x1b[0m"
    gone = old[0] - new[0]
    if not gone <= _OFF.keys() or not after:
        return whole
    off = list(dict.fromkeys(_OFF[flag] for flag in sorted(gone)))
    # One code ends both bold and dim.
    kept = {flag for flag in new[0] if flag not in old[0] or ("22" in off and flag in ("1", "2"))}
    codes = [*off, *sorted(kept)]
    for first, last, default in ((old[1], new[1], "39"), (old[2], new[2], "49")):
        if first != last:
            codes.append(last or default)
    changes = f"\x1b[{';'.join(codes)}m"
    return min(changes, whole, key=len)
