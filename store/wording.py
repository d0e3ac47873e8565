"""Numbers and texts for human readers: one minus sign (U+2212), points, percent, sizes; no control characters.

Reports, console, charts and Markdown write negative numbers through `human` and texts through `harmless`. CSV and JSON
keep ASCII numbers and the texts as they are.
"""

from __future__ import annotations

MINUS = "−"
# C0 but for tab and line feed, DEL and C1, which a terminal obeys; marks that turn the order of a line's letters, and
# separators that end a line for some programs only.
_OBEYED = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\t"), ord("\n")}
_TURNING = {0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)}
CONTROL = frozenset(_OBEYED | _TURNING)
_ESCAPES = {code: chr(code).encode("unicode_escape").decode() for code in CONTROL}
_UNITS = ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"))


def harmless(text: str) -> str:
    """Return `text` with its control characters, but for tabs and line feeds, as escapes: no terminal obeys them."""
    return text.translate(_ESCAPES)


def abridged(text: str, longest: int = 80) -> str:
    """Return `text` in at most `longest` characters, without its middle if it has more."""
    if len(text) <= longest:
        return text
    front = 2 * longest // 3
    return f"{text[:front]}…{text[len(text) - (longest - 1 - front) :]}"


def size(count: int) -> str:
    """Return a number of bytes in the unit that fits: `812 bytes`, `3.4 MiB`, `1.5 GiB`."""
    for power, unit in _UNITS:
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count} bytes" if count != 1 else "1 byte"


def human(figure: str) -> str:
    """Replace a leading ASCII minus with U+2212; an exponent keeps the form that `--set` reads: `1e-06`."""
    return MINUS + figure[1:] if figure.startswith("-") else figure


def signed(fraction: float) -> str:
    """Format a fraction in hundredths with its sign: `+3.4`, `−0.3`; zero is `0.0`."""
    return human(f"{_hundredths(fraction):+.1f}") if _hundredths(fraction) else "0.0"


def unsigned(fraction: float) -> str:
    """Format the size of a fraction in hundredths without a sign: `3.4`."""
    return f"{abs(_hundredths(fraction)):.1f}"


def is_detectable(effect: float, measure: str) -> bool:
    """Return True if `effect` is detectable; for rates, 1 means that no difference would be found."""
    return measure == "perplexity" or effect < 1.0


def _hundredths(fraction: float) -> float:
    # Adding 0.0 turns −0.0 into 0.0.
    return round(fraction * 100, 1) + 0.0
