"""Power of the paired design, and its minimum detectable effect.

The effect is shown next to each "no difference". 0/1 outcomes use the normal form of McNemar's test.
Source: Connor, R. J. (1987), Sample size for testing differences in proportions for the paired-sample design,
Biometrics 43.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from store.statistics.interval import two_sided_z

DEFAULT_POWER = 0.8


def paired_power(difference: float, discordance: float, questions: int, confidence: float = 0.95) -> float:
    """Compute the probability that a true difference is found significant.

    Args:
        difference: true difference of two rates, a fraction.
        discordance: fraction of questions that exactly one model answers correctly, ≥ |difference|.
        questions: number of shared questions.
    Raises: ValueError if `discordance` is not between |difference| and 1.
    """
    effect = abs(difference)
    if discordance < effect or discordance > 1.0:
        raise ValueError(f"discordance {discordance} must lie between the difference {effect} and 1")
    spread = math.sqrt(discordance - effect * effect)
    reach = effect * math.sqrt(questions) - two_sided_z(confidence) * math.sqrt(discordance)
    if spread == 0.0:
        return 1.0 if reach > 0.0 else 0.0
    return NormalDist().cdf(reach / spread)


def minimum_detectable_effect(
    discordance: float, questions: int, confidence: float = 0.95, power: float = DEFAULT_POWER
) -> float:
    """Compute the smallest true difference of rates detected with `power`.

    A difference needs at least as much discordance as its own size.
    So two models that never disagreed have an effect above 0: the gain of one model alone.

    Args:
        discordance: fraction of questions that exactly one model answers correctly.
        questions: number of shared questions.
    Returns: a fraction; 1 if no difference would be detected.
    """
    low, high = 0.0, 1.0
    if questions == 0 or paired_power(1.0, 1.0, questions, confidence) < power:
        return 1.0
    while high - low > 1e-9:
        effect = (low + high) / 2.0
        if paired_power(effect, max(discordance, effect), questions, confidence) < power:
            low = effect
        else:
            high = effect
    return high


def minimum_detectable_mean(
    standard_deviation: float, questions: int, confidence: float = 0.95, power: float = DEFAULT_POWER
) -> float:
    """Compute the smallest true mean difference that is detected with `power`.

    Args:
        standard_deviation: of the paired differences, in their unit.
        questions: number of shared questions.
    Returns: the difference in the same unit.
    """
    z = two_sided_z(confidence) + NormalDist().inv_cdf(power)
    return z * standard_deviation / math.sqrt(questions)
