"""Values in the unit of their measure: points, or perplexity ratios."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mathrl_tui.core import text
from store.wording import is_detectable, unsigned

# NumPy comes with this import; the command line's help works without it.
if TYPE_CHECKING:
    from store.results import Measure

# Units of a difference.
UNITS: dict[Measure, str] = {"accuracy": "points", "perplexity": "%"}


def value(figure: float, measure: Measure) -> str:
    """Format the value of an arm: `60.0 %`, `ppl 12.34`."""
    return f"ppl {figure:.2f}" if measure == "perplexity" else text.percent(figure)


def ends(low: float, high: float, measure: Measure) -> str:
    """Format an interval without a unit, to stand next to its value.

    Examples: `57.3 – 62.6`, `12.01 – 12.70`.
    """
    return f"{low:.2f} – {high:.2f}" if measure == "perplexity" else f"{100 * low:.1f} – {100 * high:.1f}"


def change(difference: float, measure: Measure) -> str:
    """Format a signed difference.

    Examples: `+3.4` points, or `+3.4 %` of the other perplexity.
    """
    return f"{text.points(difference)} %" if measure == "perplexity" else text.points(difference)


def amount(difference: float, measure: Measure) -> str:
    """Format the size of a difference with its unit: `2.0 points`, `2.0 %`."""
    return f"{unsigned(difference)} {UNITS[measure]}"


def detectable(effect: float, measure: Measure) -> str:
    """Return a minimum detectable effect with its unit.

    Returns: `none` if no difference would be found.
    """
    return amount(effect, measure) if is_detectable(effect, measure) else "none"
