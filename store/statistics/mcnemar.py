"""McNemar's test with the mid-p correction.

It tests whether one of two models answers more of the same questions correctly.
Source: Fagerland, Lydersen and Laake (2013), The McNemar test for binary matched-pairs data: mid-p and asymptotic are
better than exact conditional, BMC Medical Research Methodology 13:91.
"""

from __future__ import annotations

import math


def mcnemar_midp(a_only: int, b_only: int) -> float:
    """Compute the two-sided mid-p value of McNemar's test.

    Under the null hypothesis the smaller count is Binomial(a_only + b_only, 1/2).
    Half the probability of the observed outcome counts. Without discordant questions, or with equal counts, p is 1.

    Args:
        a_only: number of questions that only a answered correctly.
        b_only: number of questions that only b answered correctly.
    Raises: ValueError if a count is negative.
    """
    if a_only < 0 or b_only < 0:
        raise ValueError(f"counts cannot be negative: {a_only}, {b_only}")
    trials, fewer = a_only + b_only, min(a_only, b_only)
    below = math.fsum(_half_binomial(trials, successes) for successes in range(fewer))
    return min(1.0, 2.0 * below + _half_binomial(trials, fewer))


def _half_binomial(trials: int, successes: int) -> float:
    """Return the probability of `successes` heads in `trials` fair tosses."""
    ways = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return math.exp(ways - trials * math.log(2.0))
