"""A value in the unit of what it measures: accuracies and their differences in points, perplexities by their ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mathrl_tui.core import text
from store.wording import is_detectable, unsigned

if TYPE_CHECKING:  # NumPy comes with it, which the command line's help does without
    from store.results import Measure

UNITS: dict[Measure, str] = {"accuracy": "points", "perplexity": "%"}  # of a difference


def value(figure: float, measure: Measure) -> str:
    """What an arm reaches: `60.0 %`, `ppl 12.34`."""
    return f"ppl {figure:.2f}" if measure == "perplexity" else text.percent(figure)


def ends(low: float, high: float, measure: Measure) -> str:
    """The interval of such a value, its unit left to the value beside it: `57.3 – 62.6`, `12.01 – 12.70`."""
    return f"{low:.2f} – {high:.2f}" if measure == "perplexity" else f"{100 * low:.1f} – {100 * high:.1f}"


def change(difference: float, measure: Measure) -> str:
    """How far one arm lies from another: `+3.4` points, or `+3.4 %` of the other's perplexity."""
    return f"{text.points(difference)} %" if measure == "perplexity" else text.points(difference)


def amount(difference: float, measure: Measure) -> str:
    """A difference without a direction, with its unit: `2.0 points`, `2.0 %`."""
    return f"{unsigned(difference)} {UNITS[measure]}"


def detectable(effect: float, measure: Measure) -> str:
    """Return a minimum detectable effect with its unit; `none` if no difference would be found."""
    return amount(effect, measure) if is_detectable(effect, measure) else "none"
