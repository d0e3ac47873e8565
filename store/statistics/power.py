"""What the paired design can see: power, and the minimum detectable effect to print beside "no difference".

For 0/1 outcomes the normal form of McNemar's test: Connor, R. J. (1987), Sample size for testing differences in
proportions for the paired-sample design, Biometrics 43.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from store.statistics.interval import two_sided_z

DEFAULT_POWER = 0.8


def paired_power(difference: float, discordance: float, questions: int, confidence: float = 0.95) -> float:
    """Chance that a true `difference` of two rates is found significant, on `questions` shared questions.

    `discordance` is the share of questions that exactly one model gets right; it cannot be below |difference|.
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
    """The smallest true difference of two rates that would be found with the given power; 1 where none would.

    A difference needs at least as much discordance as it is large, so a pair of models that never disagreed still
    has a detectable effect above 0: that in which one model alone gains.
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
    """The same for means of any quantity, from the standard deviation of the paired differences (in its unit)."""
    z = two_sided_z(confidence) + NormalDist().inv_cdf(power)
    return z * standard_deviation / math.sqrt(questions)
