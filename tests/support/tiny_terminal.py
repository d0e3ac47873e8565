"""A terminal that understands what the console sends: moves, styles and one-cell characters."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(
    r"\x1b\[([?<=>\d;]*)([ $!]*[@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\\\)|\x1b[P_^][^\x1b]*\x1b\\\\|\x1b[^\[\]P_^]"
)

Style = tuple[frozenset[int], tuple[int, ...], tuple[int, ...]]
PLAIN: Style = (frozenset(), (), ())


class TinyTerminal:
    """Cells with a character and its visible attributes; sequences that it does not know are skipped."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, int], tuple[str, Style]] = {}
        self.cursor = (0, 0)
        self._flags: set[int] = set()
        self._ink: tuple[int, ...] = ()
        self._ground: tuple[int, ...] = ()
        self._rest = ""

    @property
    def text(self) -> str:
        """The characters of all rows, without blanks at their ends."""
        rows: dict[int, dict[int, str]] = {}
        for (y, x), (character, _) in self.cells.items():
            rows.setdefault(y, {})[x] = character
        return "\n".join(
            "".join(rows[y].get(x, " ") for x in range(max(rows[y]) + 1)).rstrip() if y in rows else ""
            for y in range(max(rows, default=-1) + 1)
        )

    def feed(self, output: str) -> None:
        """Take output in; a sequence that is not complete waits for the rest."""
        output, self._rest = self._rest + output, ""
        place = 0
        while place < len(output):
            y, x = self.cursor
            if output[place] == "\x1b":
                found = _SEQUENCE.match(output, place)
                if found is None:
                    self._rest = output[place:]
                    return
                if found[2]:
                    self._control(found[1], found[2])
                place = found.end()
                continue
            if output[place] == "\n":
                self.cursor = y + 1, x
            elif output[place] == "\r":
                self.cursor = y, 0
            elif output[place] >= " ":
                self._character(output[place])
            place += 1

    def _control(self, parameters: str, letter: str) -> None:
        if (letter == "h" and parameters == "?1049") or (letter == "J" and parameters == "2"):
            self.cells.clear()
        if not re.fullmatch(r"[\d;]*", parameters):
            return
        numbers = [int(part or 0) for part in parameters.split(";")]
        y, x = self.cursor
        if letter == "H":
            self.cursor = max(numbers[0], 1) - 1, max([*numbers, 1][1], 1) - 1
        elif letter == "C":
            self.cursor = y, x + max(numbers[0], 1)
        elif letter == "m":
            self._styled(numbers)

    def _styled(self, numbers: list[int]) -> None:
        queue = list(numbers)
        ends = {22: {1, 2}, 23: {3}, 24: {4}, 25: {5}, 27: {7}, 28: {8}, 29: {9}}
        while queue:
            code = queue.pop(0)
            if code == 0:
                self._flags, self._ink, self._ground = set(), (), ()
            elif code in (38, 48):
                size = 4 if queue[0] == 2 else 2
                colour = tuple(queue[:size])
                del queue[:size]
                if code == 38:
                    self._ink = colour
                else:
                    self._ground = colour
            elif code == 39 or 30 <= code <= 37 or 90 <= code <= 97:
                self._ink = () if code == 39 else (code,)
            elif code == 49 or 40 <= code <= 47 or 100 <= code <= 107:
                self._ground = () if code == 49 else (code,)
            elif code in ends:
                self._flags -= ends[code]
            else:
                self._flags.add(code)

    def _character(self, character: str) -> None:
        shown = set(self._flags)
        ink = self._ink
        if character == " " and not shown & {4, 5, 7, 8, 9}:
            # A blank shows its background only.
            shown, ink = set(), ()
        y, x = self.cursor
        self.cells[y, x] = (character, (frozenset(shown), ink, self._ground))
        self.cursor = y, x + 1
