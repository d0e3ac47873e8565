"""Which charts a run has: one a metric, all arms in it. Metrics are named ARM/GROUP/NAME."""

from __future__ import annotations

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
    "val/loss": "loss (validation)",
    "completions/clipped_ratio": "truncated completions",
    "reward/frac_zero_std": "groups of equal reward",
    "kl/mean": "KL to the parent",
}
_RATES = ("pass_at_1", "clipped_ratio", "frac_zero_std", "clip_ratio/low_mean", "clip_ratio/high_mean")


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: the metric's name without its arm, what it is called, and the arms that report it."""

    metric: str
    title: str
    arms: tuple[str, ...]

    @property
    def percent(self) -> bool:
        """True where values are rates in [0, 1]."""
        return self.metric.endswith(_RATES)


def split(metric: str) -> tuple[str, str]:
    """(arm, rest) of a metric's name."""
    arm, _, rest = metric.partition("/")
    return arm, rest


def panels(metrics: Iterable[str], arms: Iterable[str]) -> tuple[Panel, ...]:
    """The charts for `metrics`: the ones that everybody looks at first, then the others by name.

    The first four are there from the start, so that the wall does not jump when their values come.
    """
    order = list(arms)
    found: dict[str, list[str]] = {metric: [] for metric in list(_FIRST)[:4]}
    for metric in sorted(metrics):
        arm, rest = split(metric)
        if arm in order:
            found.setdefault(rest, []).append(arm)
    ranked = sorted(
        found, key=lambda rest: (list(_FIRST).index(rest) if rest in _FIRST else len(_FIRST), rest)
    )
    return tuple(
        Panel(rest, _FIRST.get(rest, rest), tuple(sorted(found[rest], key=order.index))) for rest in ranked
    )
