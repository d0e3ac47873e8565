"""Rates, tests, corrections and power against scipy, statsmodels and enumeration."""

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import integrate, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from store.statistics.holm import holm
from store.statistics.mcnemar import mcnemar_midp
from store.statistics.power import minimum_detectable_effect, minimum_detectable_mean, paired_power
from store.statistics.rates import wilson
from store.statistics.seeds import pool_seeds
from store.statistics.student import t_cdf, t_quantile


@pytest.mark.parametrize(
    ("successes", "total"), [(0, 10), (3, 10), (10, 10), (66, 1319), (989, 1319), (1, 1)]
)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_is_statsmodels(successes: int, total: int, confidence: float) -> None:
    low, high = proportion_confint(successes, total, alpha=1 - confidence, method="wilson")
    interval = wilson(successes, total, confidence)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)
    assert interval.estimate == successes / total


def test_wilson_of_nothing_knows_nothing() -> None:
    interval = wilson(0, 0)
    assert (interval.low, interval.high) == (0.0, 1.0)
    assert math.isnan(interval.estimate)


def test_wilson_refuses_more_successes_than_trials() -> None:
    with pytest.raises(ValueError, match="5 successes of 4"):
        wilson(5, 4)


@pytest.mark.parametrize(
    ("a_only", "b_only"), [(0, 0), (0, 1), (3, 3), (5, 9), (40, 66), (700, 640), (4000, 4200)]
)
def test_mcnemar_midp_is_the_exact_test_less_half_of_each_tail_end(a_only: int, b_only: int) -> None:
    trials, fewer = a_only + b_only, min(a_only, b_only)
    coin = stats.binom(trials, 0.5)
    one_side = coin.cdf(fewer) - coin.pmf(fewer) / 2
    assert mcnemar_midp(a_only, b_only) == pytest.approx(min(1.0, 2 * one_side), rel=1e-9)
    assert mcnemar_midp(a_only, b_only) == mcnemar_midp(b_only, a_only)


def test_holm_is_statsmodels() -> None:
    generator = np.random.default_rng(0)
    for size in (1, 2, 7, 30):
        values = (generator.random(size) ** 3).tolist()
        assert holm(values) == pytest.approx(multipletests(values, method="holm")[1].tolist())
    assert holm([]) == []
    assert holm([0.01, 0.01, 0.5]) == pytest.approx([0.03, 0.03, 0.5])


@pytest.mark.parametrize("freedom", [1.0, 2.0, 2.7, 5.0, 30.0, 1318.0])
def test_student_integrates_its_density(freedom: float) -> None:
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)

    def density(value: float) -> float:
        return math.exp(scale - (freedom + 1) / 2 * math.log1p(value**2 / freedom))

    for value in (-4.0, -0.5, 0.0, 1.3, 12.0):
        area = 0.5 + integrate.quad(density, 0.0, value, epsabs=1e-13)[0]
        assert t_cdf(value, freedom) == pytest.approx(area, abs=1e-12)
    for probability in (0.025, 0.5, 0.9, 0.975, 0.995):
        assert t_cdf(t_quantile(probability, freedom), freedom) == pytest.approx(probability, abs=1e-12)
    with pytest.raises(ValueError, match="at least 1"):
        t_quantile(0.9, 0.5)


def test_a_tiny_p_value_keeps_its_relative_precision() -> None:
    pooled = pool_seeds(np.random.default_rng(0).normal(3.0, 1.0, (40, 60)))
    value = pooled.interval.estimate / pooled.standard_error
    assert pooled.p_value == pytest.approx(2 * stats.t.sf(value, pooled.degrees_of_freedom), rel=1e-9)
    assert 0.0 < pooled.p_value < 1e-15


def test_statistics_load_scipy_only_when_they_pool_seeds() -> None:
    code = (
        "import sys\n"
        "from store import comparison, pooling\n"
        "assert not any(name.partition('.')[0] == 'scipy' for name in sys.modules)\n"
        "from store.statistics.student import t_quantile\n"
        "t_quantile(0.9, 4.0)\n"
        "assert 'scipy.special' in sys.modules and 'scipy.stats' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def exact_power(difference: float, discordance: float, questions: int) -> float:
    """Power of the mid-p test by enumeration over the discordant count and who won it."""
    found = 0.0
    for discordant in range(1, questions + 1):
        weight = stats.binom.pmf(discordant, questions, discordance)
        if weight < 1e-9:
            continue
        wins = np.arange(discordant + 1)
        rejected = [mcnemar_midp(int(win), int(discordant - win)) <= 0.05 for win in wins]
        share = (discordance + difference) / (2 * discordance)
        found += weight * float(np.sum(stats.binom.pmf(wins, discordant, share)[rejected]))
    return found


@pytest.mark.parametrize(("difference", "discordance"), [(0.1, 0.2), (0.05, 0.15), (0.15, 0.3)])
def test_power_is_near_the_exact_power_of_the_midp_test(difference: float, discordance: float) -> None:
    assert paired_power(difference, discordance, 250) == pytest.approx(
        exact_power(difference, discordance, 250), abs=0.02
    )


def test_power_of_two_points_on_gsm8k_is_the_published_range() -> None:
    assert paired_power(0.02, 0.10, 1319) == pytest.approx(0.64, abs=0.01)
    assert paired_power(0.02, 0.20, 1319) == pytest.approx(0.35, abs=0.02)


@pytest.mark.parametrize("discordance", [0.0, 0.02, 0.1, 0.4])
def test_the_detectable_effect_has_the_power_it_promises(discordance: float) -> None:
    effect = minimum_detectable_effect(discordance, 1319)
    assert paired_power(effect, max(discordance, effect), 1319) == pytest.approx(0.8, abs=1e-4)


def test_models_that_never_disagreed_still_have_a_detectable_effect() -> None:
    assert 0.004 < minimum_detectable_effect(0.0, 1319) < 0.008
    assert minimum_detectable_effect(0.0, 2) == 1.0


def test_detectable_mean_by_simulation() -> None:
    effect = minimum_detectable_mean(2.0, 400)
    draws = np.random.default_rng(0).normal(effect, 2.0, size=(4000, 400))
    z = draws.mean(axis=1) / (draws.std(axis=1) / 20.0)
    assert float(np.mean(np.abs(z) > 1.96)) == pytest.approx(0.8, abs=0.02)
