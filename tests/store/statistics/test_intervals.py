"""Bootstrap, BCa, Tango, perplexity and pooled seeds against scipy, statsmodels, formulas and simulation."""

import time

import numpy as np
import pandas
import pytest
from scipy import stats
from scipy.optimize import brentq, minimize_scalar
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from store.statistics.bootstrap import bca_interval, percentile_interval, with_count
from store.statistics.paired import paired_interval, paired_p_value, sign_flip_p_value, tango_interval
from store.statistics.perplexity import perplexity_interval, perplexity_ratio_interval
from store.statistics.resampling import resampled_sums
from store.statistics.seeds import pool_seeds
from tests.bench.coverage import ModelPair, paired_coverage, shown, wilson_coverage


def differences(a_only: int, b_only: int, questions: int) -> np.ndarray:
    rows = np.zeros(questions)
    rows[:a_only], rows[a_only : a_only + b_only] = -1.0, 1.0
    return rows


def scipy_interval(rows: np.ndarray, statistic, method: str) -> tuple[float, float]:
    found = stats.bootstrap(
        rows,
        statistic,
        n_resamples=20_000,
        method=method,
        paired=True,
        random_state=1,
        vectorized=True,
        batch=500,
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def test_paired_interval_is_scipys_percentile_bootstrap() -> None:
    rows = differences(60, 95, 500)
    interval = paired_interval(rows)
    assert interval.estimate == pytest.approx(35 / 500)
    low, high = scipy_interval((rows,), np.mean, "percentile")
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.0025)


def test_multinomial_and_index_resampling_agree() -> None:
    rows = differences(60, 95, 500)
    by_count = resampled_sums(with_count(rows), 20_000, 0)[:, 0]
    jitter = np.linspace(0, 1e-9, 500)  # makes every row distinct, so that rows are drawn by index
    by_index = resampled_sums(with_count(rows + jitter), 20_000, 1)[:, 0]
    assert by_index.mean() == pytest.approx(by_count.mean(), abs=0.5)
    assert by_index.std() == pytest.approx(by_count.std(), rel=0.03)
    assert by_count.std() == pytest.approx(np.sqrt(500) * rows.std(), rel=0.03)


def test_a_seed_repeats_itself_and_another_differs() -> None:
    rows = differences(60, 95, 500)
    assert paired_interval(rows, seed=3) == paired_interval(rows, seed=3)
    scores = np.random.default_rng(0).normal(size=200)
    assert paired_interval(scores, seed=3) == paired_interval(scores, seed=3)
    assert paired_interval(scores, seed=3) != paired_interval(scores, seed=4)


def test_bca_of_a_skewed_mean_is_scipys() -> None:
    rows = np.random.default_rng(0).lognormal(5.0, 1.2, size=80)
    interval = bca_interval(with_count(rows), resamples=20_000)
    low, high = scipy_interval((rows,), np.mean, "BCa")
    width = high - low
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.04 * width)
    plain = percentile_interval(with_count(rows), resamples=20_000)
    assert interval.high - plain.high > 0.05 * width  # the skewness is really corrected


def tango_by_likelihood(a_only: int, b_only: int, questions: int, difference: float) -> float:
    """Tango's statistic with the nuisance rate found by maximising the likelihood numerically."""

    def loss(rate: float) -> float:
        cells = np.array([rate, rate + difference, 1 - 2 * rate - difference])
        return -float(
            np.sum([a_only, b_only, questions - a_only - b_only] * np.log(np.maximum(cells, 1e-300)))
        )

    floor, ceiling = max(0.0, -difference), (1 - difference) / 2
    rate = minimize_scalar(loss, bounds=(floor, ceiling), method="bounded", options={"xatol": 1e-13}).x
    variance = questions * (2 * rate + difference - difference**2)
    return (b_only - a_only - questions * difference) / np.sqrt(variance)


@pytest.mark.parametrize(("a_only", "b_only", "questions"), [(3, 9, 100), (5, 5, 1319), (1, 20, 60)])
def test_tango_inverts_the_score_test(a_only: int, b_only: int, questions: int) -> None:
    interval = tango_interval(a_only, b_only, questions)
    estimate = (b_only - a_only) / questions

    def excess(difference: float, target: float) -> float:
        return tango_by_likelihood(a_only, b_only, questions, difference) - target

    assert interval.low == pytest.approx(brentq(excess, -0.9, estimate - 1e-6, args=(1.95996,)), abs=1e-4)
    assert interval.high == pytest.approx(brentq(excess, estimate + 1e-6, 0.9, args=(-1.95996,)), abs=1e-4)


def test_models_that_agree_everywhere_get_an_interval_that_is_no_point() -> None:
    interval = paired_interval(np.zeros(1319))
    assert interval.low == pytest.approx(-(1.96**2) / (1319 + 1.96**2), rel=1e-3)
    assert interval.high == pytest.approx(-interval.low)
    assert paired_p_value(np.zeros(1319)) == 1.0


def test_models_that_differ_everywhere_get_an_interval_that_is_no_point() -> None:
    for sign in (1.0, -1.0):
        interval = paired_interval(np.full(50, sign))
        assert interval.estimate == sign
        ends = sorted((abs(interval.low), abs(interval.high)))
        assert ends == pytest.approx(
            [(50 - 1.96**2) / (50 + 1.96**2), 1.0], abs=1e-4
        )  # Tango's, solved by hand
    coverage = paired_coverage(ModelPair(0.0, 0.99, 0.0, 0.99), 120, datasets=1000, seed=0, interval_of=shown)
    assert coverage > 0.94


def test_sign_flips_are_scipys_permutation_test() -> None:
    rows = np.random.default_rng(2).normal(0.3, 1.0, size=60)
    expected = stats.permutation_test(
        (rows, np.zeros(60)),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=20_000,
        random_state=0,
    )
    assert sign_flip_p_value(rows) == pytest.approx(expected.pvalue, abs=0.01)


def test_sign_flips_of_few_rows_are_the_enumerated_value() -> None:
    rows = np.array([0.5, 0.25, 1.0, -0.5, 0.75])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1).T
    exact = float(np.mean(np.abs(signs @ rows) >= abs(rows.sum()) - 1e-12))
    assert sign_flip_p_value(rows, resamples=40_000) == pytest.approx(exact, abs=0.01)


def test_scores_that_are_no_numbers_are_no_significant_difference() -> None:
    rows = np.array([0.5, np.nan, 1.0, -0.5] * 8)
    assert sign_flip_p_value(rows) == 1.0
    assert paired_p_value(rows) == 1.0


def test_perplexity_is_scipys_bca_over_documents() -> None:
    generator = np.random.default_rng(0)
    tokens = generator.integers(50, 900, size=62)
    nll = tokens * generator.lognormal(1.0, 0.3, size=62)
    interval = perplexity_interval(nll, tokens, resamples=20_000)

    def perplexity(nll: np.ndarray, tokens: np.ndarray, axis: int) -> np.ndarray:
        return np.exp(nll.sum(axis=axis) / tokens.sum(axis=axis))

    low, high = scipy_interval((nll, tokens.astype(float)), perplexity, "BCa")
    assert interval.estimate == pytest.approx(np.exp(nll.sum() / tokens.sum()))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.04 * (high - low))


def test_perplexity_ratio_of_a_model_that_loses_a_tenth_of_a_nat_a_token() -> None:
    generator = np.random.default_rng(0)
    tokens = generator.integers(50, 900, size=62)
    nll = tokens * generator.lognormal(1.0, 0.3, size=62)
    worse = nll + tokens * generator.normal(0.1, 0.02, size=62)
    interval = perplexity_ratio_interval(nll, worse, tokens)
    assert interval.low < np.exp(0.1) < interval.high
    assert interval.low > 1.0
    assert interval.high - interval.low < 0.02  # far narrower than either perplexity's own interval


def crossed(
    generator: np.random.Generator, seeds: int, questions: int, mean: float, spread: float
) -> np.ndarray:
    effects = generator.normal(0, spread, (seeds, 1)) + generator.normal(0, 0.2, (1, questions))
    return mean + effects + generator.normal(0, 0.4, (seeds, questions))


def test_pooled_variance_is_statsmodels_two_way_analysis() -> None:
    rows = crossed(np.random.default_rng(0), 4, 50, mean=0.1, spread=0.3)
    seed, question = np.indices(rows.shape)
    table = anova_lm(
        ols(
            "value ~ C(seed) + C(question)",
            pandas.DataFrame({"value": rows.ravel(), "seed": seed.ravel(), "question": question.ravel()}),
        ).fit()
    )
    squares = table["mean_sq"]
    variance = (squares["C(seed)"] + squares["C(question)"] - squares["Residual"]) / rows.size
    pooled = pool_seeds(rows)
    half = stats.t.ppf(0.975, pooled.degrees_of_freedom) * np.sqrt(variance)
    assert pooled.interval.high - pooled.interval.estimate == pytest.approx(half, rel=1e-6)
    assert pooled.between_seeds == pytest.approx(np.sqrt((squares["C(seed)"] - squares["Residual"]) / 50))
    assert pooled.p_value == pytest.approx(
        2 * stats.t.sf(abs(rows.mean()) / np.sqrt(variance), pooled.degrees_of_freedom), rel=1e-5
    )


def test_pooled_intervals_cover_where_one_seeds_interval_does_not() -> None:
    generator = np.random.default_rng(1)
    held = alone = 0
    for _ in range(600):
        rows = crossed(generator, 3, 200, mean=0.02, spread=0.05)
        interval = pool_seeds(rows).interval
        held += interval.low <= 0.02 <= interval.high
        error = 1.96 * rows[0].std() / np.sqrt(200)
        alone += abs(rows[0].mean() - 0.02) <= error
    assert 0.93 <= held / 600 <= 0.995
    assert alone / 600 < 0.85


def test_a_gap_beyond_doubt_has_a_p_value_of_zero_and_none_below() -> None:
    for seed in range(20):
        generator = np.random.default_rng(seed)
        gained = (generator.random(1319) < 0.6) ^ (generator.random((3, 1319)) < 0.02)
        assert 0.0 <= pool_seeds(gained.astype(float)).p_value < 1e-9


def test_one_seed_cannot_be_pooled() -> None:
    with pytest.raises(ValueError, match="two seeds"):
        pool_seeds(np.zeros((1, 10)))


def test_wilson_covers_at_every_rate() -> None:
    for rate in np.arange(0.05, 0.951, 0.05):
        assert 0.94 <= wilson_coverage(float(rate), 1319) <= 0.96


@pytest.mark.parametrize(
    "pair",
    [
        ModelPair(0.05, 0.05, 0.0048, 0.0048),
        ModelPair(0.5, 0.52, 0.02, 0.04),
        ModelPair(0.95, 0.95, 0.019, 0.019),
        ModelPair(0.5, 0.5024, 0.0003, 0.0027),
    ],
)
def test_paired_intervals_cover(pair: ModelPair) -> None:
    coverage = paired_coverage(pair, 1319, datasets=1000, seed=0, interval_of=shown)
    assert 0.925 <= coverage <= 0.975  # the kept simulation says 94 to 96; 1000 data sets add an error of 0.7


def test_the_bootstrap_of_1319_binary_rows_takes_at_most_ten_milliseconds() -> None:
    rows = differences(140, 170, 1319)
    times = []
    for _ in range(5):
        start = time.process_time()
        paired_interval(rows)
        times.append(time.process_time() - start)
    assert min(times) <= 0.010
