"""The charts of a run: one for each metric, with all arms or all GPUs.

Metrics are named ARM/GROUP/NAME. The steps of a GPU's metrics, gpu/N/NAME, are seconds since the run was
created.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_FIRST = {
    "train/loss": "loss",
    "reward/mean": "reward",
    "val/pass_at_1": "accuracy (validation)",
    "completions/mean_length": "completion length, tokens",
    "train/entropy": "entropy",
    "train/grad_norm": "gradient norm",
    "train/tokens_per_second": "training, tokens/s",
    "worker/tokens_per_second": "generation, tokens/s",
    "utilisation": "GPU utilisation, %",
    "memory_gib": "GPU memory, GiB",
    "val/loss": "loss (validation)",
    "completions/clipped_ratio": "truncated completions",
    "reward/frac_zero_std": "groups of equal reward",
    "kl/mean": "KL to the parent",
}
GPU_METRIC = re.compile(r"gpu/(\d+)/(utilisation|memory_gib)\Z")
_HELD: dict[str, tuple[float, ...]] = {"utilisation": (0.0, 100.0), "memory_gib": (0.0,)}
_RATES = ("pass_at_1", "clipped_ratio", "frac_zero_std", "clip_ratio/low_mean", "clip_ratio/high_mean")


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: metric without its source, title, and sources.

    A source is an arm, or a GPU as `gpu/0`.
    """

    metric: str
    title: str
    sources: tuple[str, ...]

    @property
    def percent(self) -> bool:
        """Return True if values are rates in [0, 1]."""
        return self.metric.endswith(_RATES)

    @property
    def by_clock(self) -> bool:
        """Return True if the metric belongs to a machine.

        It then has no steps and tokens, only times.
        """
        return self.metric in _HELD

    @property
    def held(self) -> tuple[float, ...]:
        """Return values that the y-axis always includes."""
        return _HELD.get(self.metric, ())


def split(metric: str) -> tuple[str, str]:
    """Split a metric into its source (arm or GPU) and the rest of its name."""
    if match := GPU_METRIC.match(metric):
        return f"gpu/{match[1]}", match[2]
    source, _, rest = metric.partition("/")
    return source, rest


def panels(metrics: Iterable[str], arms: Iterable[str]) -> tuple[Panel, ...]:
    """Return the charts for `metrics`, the most important first.

    The others are sorted by name. The first four are always present, so that the layout does not jump when
    their values arrive.
    """
    order = list(arms)
    found: dict[str, list[str]] = {metric: [] for metric in list(_FIRST)[:4]}
    for metric in sorted(metrics):
        source, rest = split(metric)
        if source in order or rest in _HELD:
            found.setdefault(rest, []).append(source)
    known = list(_FIRST)
    ranked = sorted(found, key=lambda rest: (known.index(rest) if rest in _FIRST else len(known), rest))
    return tuple(
        Panel(
            rest,
            _FIRST.get(rest, rest),
            tuple(sorted(found[rest], key=_number if rest in _HELD else order.index)),
        )
        for rest in ranked
    )


def _number(gpu: str) -> int:
    return int(gpu.partition("/")[2])
