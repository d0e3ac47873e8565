"""Simulated coverage of the intervals.

`python -m tests.bench.coverage` draws pairs of models on the same questions, with rates from .05 to .95.
It builds the intervals that `compare` and the evaluation tables show, and counts how many contain the true
value. Data sets with equal counts share one interval.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.statistics.bootstrap import percentile_interval, with_count
from store.statistics.interval import Interval
from store.statistics.paired import paired_interval, tango_interval
from store.statistics.rates import wilson

RATES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
GAINS = (0.0, 0.02)
CORRELATIONS = (0.3, 0.6, 0.9)
# Expected number of discordant questions of nearly equal models.
FEW = (4.0, 8.0, 12.0, 20.0)
# Fraction of the discordant questions that only b answers correctly.
SHARES = (0.5, 0.7, 0.9)


@dataclass(frozen=True, slots=True)
class ModelPair:
    """True rates of two models, and probabilities of discordant answers.

    A discordant question is one that only one of the two answers correctly.
    """

    a_rate: float
    b_rate: float
    a_only: float
    b_only: float


def pairs() -> Iterator[tuple[str, ModelPair]]:
    """Yield each possible pair of the grid with a label of its kind."""
    for correlation in CORRELATIONS:
        for rate in RATES:
            for gain in GAINS:
                a, b = rate, rate + gain
                both = a * b + correlation * math.sqrt(a * (1 - a) * b * (1 - b))
                if both < min(a, b):
                    yield f"correlation {correlation}", ModelPair(a, b, a - both, b - both)


def alike(questions: int) -> Iterator[tuple[str, ModelPair]]:
    """Yield labelled pairs of models that disagree on few questions.

    The number of questions is `questions`.
    """
    for discordant in FEW:
        for share in SHARES:
            a_only, b_only = (1 - share) * discordant / questions, share * discordant / questions
            yield f"b's share {share}", ModelPair(0.5, 0.5 + b_only - a_only, a_only, b_only)


def wilson_coverage(rate: float, questions: int) -> float:
    """Compute the exact coverage of the 95 % Wilson interval.

    It is a sum over all counts.
    """
    log_rate, log_miss = math.log(rate), math.log1p(-rate)
    held = 0.0
    for count in range(questions + 1):
        interval = wilson(count, questions)
        if interval.low <= rate <= interval.high:
            ways = math.lgamma(questions + 1) - math.lgamma(count + 1) - math.lgamma(questions - count + 1)
            held += math.exp(ways + count * log_rate + (questions - count) * log_miss)
    return held


def paired_coverage(
    pair: ModelPair,
    questions: int,
    datasets: int,
    seed: int,
    interval_of: Callable[[int, int, int], Interval],
) -> float:
    """Return the fraction of data sets with the true difference covered.

    The data sets are simulated. Covered means inside the interval.
    """
    shares = [pair.a_only, pair.b_only, 1.0 - pair.a_only - pair.b_only]
    drawn = np.random.default_rng(seed).multinomial(questions, shares, size=datasets)[:, :2]
    truth, held = pair.b_rate - pair.a_rate, 0
    outcomes, times = np.unique(drawn, axis=0, return_counts=True)
    for (a_only, b_only), count in zip(outcomes.tolist(), times.tolist(), strict=True):
        interval = interval_of(a_only, b_only, questions)
        held += count * (interval.low - 1e-12 <= truth <= interval.high + 1e-12)
    return held / datasets


def differences(a_only: int, b_only: int, questions: int) -> NDArray[np.float64]:
    """Return (questions,) differences −1, +1 and 0 with these counts."""
    return np.repeat([-1.0, 1.0, 0.0], [a_only, b_only, questions - a_only - b_only])


def shown(a_only: int, b_only: int, questions: int) -> Interval:
    """Return the interval that `compare` shows."""
    return paired_interval(differences(a_only, b_only, questions))


def plain_bootstrap(a_only: int, b_only: int, questions: int) -> Interval:
    """Return the percentile bootstrap interval.

    It is used for any number of discordant questions.
    """
    return percentile_interval(with_count(differences(a_only, b_only, questions)))


def main() -> None:
    """Print one line for each rate and one for each pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=1319)
    parser.add_argument("--datasets", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(
        f"95 % intervals, n = {options.questions}; Wilson exact, pairs from {options.datasets} data sets each"
    )
    for rate in np.arange(0.05, 0.951, 0.05):
        print(f"wilson  rate {rate:.2f}  {wilson_coverage(float(rate), options.questions):.4f}")
    print(
        "paired  rates, kind, expected discordant questions: shown, percentile bootstrap alone, Tango alone"
    )
    for kind, pair in (*pairs(), *alike(options.questions)):
        figures = "  ".join(
            f"{paired_coverage(pair, options.questions, options.datasets, options.seed, interval_of):.4f}"
            for interval_of in (shown, plain_bootstrap, tango_interval)
        )
        rates = f"{pair.a_rate:.2f} {pair.b_rate:.2f}"
        discordant = (pair.a_only + pair.b_only) * options.questions
        print(f"paired  {rates}  {kind}  {discordant:5.1f}  {figures}", flush=True)


if __name__ == "__main__":
    main()
