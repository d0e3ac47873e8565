"""Holm's step-down correction over a family of tests.

Source: Holm, S. (1979), A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6.
"""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for a family of tests; the order is kept.

    An adjusted value is the family-wise error rate at which its test would just be rejected.

    Args:
        p_values: (tests,) unadjusted p-values.
    Returns: (tests,) adjusted p-values in [0, 1].
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    reached = 0.0
    for rank, place in enumerate(order):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = reached
    return adjusted
