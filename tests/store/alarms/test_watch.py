"""The alarm rules: silent on healthy series, and quick on each planted fault."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from store.alarms import explosion, mismatch, not_finite
from store.alarms.watch import Watch
from store.records import Scalar


def fired(metric: str, values: Sequence[float]) -> list[tuple[str, int]]:
    """The alarms of a series: name, and step."""
    watch = Watch()
    rows = [Scalar(metric, step, value, 0.0) for step, value in enumerate(values)]
    return [(one.alarm, one.step) for one in watch.take(rows)]


NOISE = random.Random(0)


def noisy(levels: Sequence[float], spread: float) -> list[float]:
    return [level * math.exp(NOISE.gauss(0, spread)) for level in levels]


HEALTHY = {
    "a falling loss": ("sft/train/loss", noisy([2.0 / (1 + step / 50) + 0.2 for step in range(500)], 0.1)),
    "a loss that rises at first": ("sft/train/loss", [*noisy([0.4 + step / 50 for step in range(60)], 0.1)]),
    "a noisy policy loss around zero": ("grpo/train/loss", [NOISE.gauss(0, 0.02) for _ in range(2000)]),
    "a policy loss of 0, then small": (
        "grpo/train/loss",
        [0.0] * 200 + [NOISE.gauss(0, 0.1) for _ in range(200)],
    ),
    "single spikes of the gradient": (
        "grpo/train/grad_norm",
        [60.0 if step % 97 == 96 else 0.5 for step in range(1000)],
    ),
    "no gradient until the first reward": ("grpo/train/grad_norm", [0.0] * 300 + noisy([0.8] * 300, 0.5)),
    "a reward of 0 for long": ("grpo/reward/mean", [0.0] * 1000),
    "a reward that is found late": ("grpo/reward/mean", [0.0] * 500 + [step / 500 for step in range(500)]),
    "a noisy reward": ("grpo/reward/mean", [min(max(NOISE.gauss(0.5, 0.2), 0.0), 1.0) for _ in range(2000)]),
    "a reward that loses half": ("grpo/reward/mean", noisy([0.8] * 100 + [0.4] * 200, 0.2)),
    "an entropy that falls with success": (
        "grpo/train/entropy",
        noisy([0.5 * math.exp(-step / 300) + 0.03 for step in range(1000)], 0.2),
    ),
    "bfloat16 differences": ("grpo/sampling/logprob_difference/mean", noisy([0.01] * 1000, 0.4)),
    "a GPU that waits for an evaluation": ("gpu/0/utilisation", ([95.0] * 50 + [0.0] * 200) * 10),
    "another metric": ("grpo/completions/mean_length", [1.0, math.nan, 1e9]),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_series_raises_no_alarm(name: str) -> None:
    assert fired(*HEALTHY[name]) == []


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("sft/train/loss", [1.0] * 5 + [math.nan] + [1.0] * 5, [("not-finite", 5)]),
        ("grpo/train/grad_norm", [math.inf, -math.inf], [("not-finite", 0)]),
        # Three values above 5 x 1.2.
        ("sft/train/loss", [1.2] * 30 + [50.0] * 9, [("explosion", 32)]),
        ("sft/train/loss", [0.3] * 30 + [9.0, 10.0, 11.0], [("explosion", 32)]),
        # It is not finite at the end; the values before are an alarm of their own.
        (
            "sft/train/loss",
            [0.3] * 30 + [9.0, 90.0, 900.0, math.inf],
            [("explosion", 32), ("not-finite", 33)],
        ),
        ("grpo/train/grad_norm", [0.5] * 30 + [80.0] * 3, [("explosion", 32)]),
        # 16 of 20 values are 0: the mean is 0.16, a fifth of 0.8.
        ("grpo/reward/mean", [0.8] * 40 + [0.0] * 20, [("reward-collapse", 55)]),
        ("grpo/train/entropy", [0.4] * 40 + [0.001] * 40, [("entropy-collapse", 59)]),
        ("grpo/sampling/logprob_difference/mean", [0.01, 0.3, 0.3], [("sampler-mismatch", 1)]),
        ("gpu/1/utilisation", [90.0] * 10 + [0.0] * 400, [("gpu-idle", 369)]),
    ],
)
def test_a_planted_fault_is_found_and_named_once(
    metric: str, values: list[float], expected: list[tuple[str, int]]
) -> None:
    assert fired(metric, values) == expected


def test_an_alarm_names_its_value_and_its_metric() -> None:
    (found,) = Watch().take([Scalar("sft/train/loss", 7, math.nan, 0.0)])
    assert (found.metric, found.step, found.value) == ("sft/train/loss", 7, "nan")


def test_the_rules_know_the_names_that_training_records() -> None:
    root = Path(__file__).parents[3] / "engine"
    source = "".join(path.read_text() for path in root.rglob("*.py"))
    recorded = {*not_finite.METRICS, *explosion.FLOORS, mismatch.METRIC.removesuffix("/mean")}
    assert [name for name in recorded - {"val/loss"} if f'{name}"' not in source] == []
