"""Numbers for human readers: one minus sign (U+2212), points and percent.

Reports, console, charts and Markdown write negative numbers through `human`. CSV and JSON keep ASCII numbers.
"""

from __future__ import annotations

MINUS = "−"


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
