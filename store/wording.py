"""Numbers and texts for users: minus sign, points, percent, sizes.

Reports, console, charts and Markdown write negative numbers with U+2212 through `human`, and texts without
control characters through `harmless`. CSV and JSON keep ASCII numbers and the original texts.
"""

from __future__ import annotations

MINUS = "−"
# C0 except tab and line feed, DEL and C1: a terminal obeys these. Also marks that reorder the letters of a
# line, and separators that end a line in some programs only.
_OBEYED = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\t"), ord("\n")}
_TURNING = {0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)}
CONTROL = frozenset(_OBEYED | _TURNING)
_ESCAPES = {code: chr(code).encode("unicode_escape").decode() for code in CONTROL}
_UNITS = ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"))


def harmless(text: str) -> str:
    """Return `text` with control characters as escapes.

    Tabs and line feeds stay. The result cannot control a terminal.
    """
    return text.translate(_ESCAPES)


def abridged(text: str, longest: int = 80) -> str:
    """Return `text` in at most `longest` characters.

    If it has more, its middle is cut.
    """
    if len(text) <= longest:
        return text
    front = 2 * longest // 3
    return f"{text[:front]}…{text[len(text) - (longest - 1 - front) :]}"


def size(count: int) -> str:
    """Return a number of bytes in a suitable unit.

    Examples: `812 bytes`, `3.4 MiB`, `1.5 GiB`.
    """
    for power, unit in _UNITS:
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count} bytes" if count != 1 else "1 byte"


def human(figure: str) -> str:
    """Replace a leading ASCII minus with U+2212.

    An exponent keeps the form that `--set` reads: `1e-06`.
    """
    return MINUS + figure[1:] if figure.startswith("-") else figure


def signed(fraction: float) -> str:
    """Format a fraction in hundredths with its sign: `+3.4`, `−0.3`.

    Zero is `0.0`.
    """
    return human(f"{_hundredths(fraction):+.1f}") if _hundredths(fraction) else "0.0"


def unsigned(fraction: float) -> str:
    """Format the size of a fraction in hundredths without a sign: `3.4`."""
    return f"{abs(_hundredths(fraction)):.1f}"


def is_detectable(effect: float, measure: str) -> bool:
    """Return True if `effect` is detectable.

    For rates, 1 means that no difference would be found.
    """
    return measure == "perplexity" or effect < 1.0


def _hundredths(fraction: float) -> float:
    # Adding 0.0 turns −0.0 into 0.0.
    return round(fraction * 100, 1) + 0.0
