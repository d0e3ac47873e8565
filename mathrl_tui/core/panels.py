"""Which charts a run has: one a metric, with all arms in it, or all GPUs.

Metrics are named ARM/GROUP/NAME; those of a GPU, gpu/N/NAME, count their steps in seconds since the run was made.
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
    """One chart: the metric's name without what reports it, its title, and what does: arms, or GPUs as `gpu/0`."""

    metric: str
    title: str
    sources: tuple[str, ...]

    @property
    def percent(self) -> bool:
        """True where values are rates in [0, 1]."""
        return self.metric.endswith(_RATES)

    @property
    def by_clock(self) -> bool:
        """True where the metric belongs to a machine: neither a run's steps nor its tokens place it."""
        return self.metric in _HELD

    @property
    def held(self) -> tuple[float, ...]:
        """Values that the y-axis holds whatever was measured."""
        return _HELD.get(self.metric, ())


def split(metric: str) -> tuple[str, str]:
    """What reports a metric, an arm or a GPU, and the metric's name without it."""
    if match := GPU_METRIC.match(metric):
        return f"gpu/{match[1]}", match[2]
    source, _, rest = metric.partition("/")
    return source, rest


def panels(metrics: Iterable[str], arms: Iterable[str]) -> tuple[Panel, ...]:
    """The charts for `metrics`: the ones that everybody looks at first, then the others by name.

    The first four are there from the start, so that the wall does not jump when their values come.
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
