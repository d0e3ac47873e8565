"""McNemar's test with the mid-p correction: did one of two models answer more of the same questions rightly?

Fagerland, Lydersen and Laake (2013), The McNemar test for binary matched-pairs data: mid-p and asymptotic are
better than exact conditional, BMC Medical Research Methodology 13:91.
"""

from __future__ import annotations

import math


def mcnemar_midp(a_only: int, b_only: int) -> float:
    """Two-sided mid-p value from the questions that only a, and only b, got right.

    Under the null hypothesis the smaller count is Binomial(a_only + b_only, 1/2); half of the observed outcome's
    own probability counts. No discordant question, or equal counts, gives 1.
    """
    if a_only < 0 or b_only < 0:
        raise ValueError(f"counts cannot be negative: {a_only}, {b_only}")
    trials, fewer = a_only + b_only, min(a_only, b_only)
    below = math.fsum(_half_binomial(trials, successes) for successes in range(fewer))
    return min(1.0, 2.0 * below + _half_binomial(trials, fewer))


def _half_binomial(trials: int, successes: int) -> float:
    """Probability of `successes` heads in `trials` fair tosses."""
    ways = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return math.exp(ways - trials * math.log(2.0))
