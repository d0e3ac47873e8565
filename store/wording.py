"""Figures for people: one minus sign (U+2212), points and per cent.

Reports, console, charts and Markdown write every negative number through `human`. CSV and JSON keep ASCII numbers.
"""

from __future__ import annotations

MINUS = "−"


def human(figure: str) -> str:
    """Return a formatted number with the typographic minus sign; an exponent stays as `--set` reads it: `1e-06`."""
    return MINUS + figure[1:] if figure.startswith("-") else figure


def signed(fraction: float) -> str:
    """Return a fraction in hundredths, always with its sign: `+3.4`, `−0.3`; `0.0` without one."""
    return human(f"{_hundredths(fraction):+.1f}") if _hundredths(fraction) else "0.0"


def unsigned(fraction: float) -> str:
    """Return the size of a fraction in hundredths, without a sign: `3.4`."""
    return f"{abs(_hundredths(fraction)):.1f}"


def is_detectable(effect: float, measure: str) -> bool:
    """Return whether a minimum detectable effect is one: for rates, 1 means that no difference would be found."""
    return measure == "perplexity" or effect < 1.0


def _hundredths(fraction: float) -> float:
    return round(fraction * 100, 1) + 0.0  # + 0.0 turns −0.0 into 0.0
