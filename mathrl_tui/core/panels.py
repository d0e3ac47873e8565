"""The charts of a run, each with the arms or GPUs that share its axes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_TITLES = {
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
    "power_w": "GPU power, W",
    "temperature_c": "GPU temperature, °C",
    "train/learning_rate": "learning rate",
    "train/tokens": "tokens a step",
    "reward/std": "reward, standard deviation",
    "reward/correct": "correct in training",
    "val/mean_length": "length (validation), tokens",
    "val/no_answer": "no answer (validation)",
    "val/truncated": "truncated (validation)",
    "completions/p95_length": "length, 95th percentile, tokens",
    "completions/no_answer_ratio": "completions without an answer",
    "sampling/logprob_difference": "sampler–trainer difference",
    "policy/logprob_change": "log-probability change",
    "clip_ratio/low_mean": "clipped below",
    "clip_ratio/high_mean": "clipped above",
    "worker/idle_seconds": "generation idle, s a step",
    "worker/loading_seconds": "loading weights, s a step",
}
# These are charts from the start, so that the layout does not jump when their values arrive.
_ALWAYS = ("train/loss", "reward/mean", "val/pass_at_1", "completions/mean_length")
GPU_METRIC = re.compile(r"gpu/(\d+)/(utilisation|memory_gib|power_w|temperature_c)\Z")
_HELD: dict[str, tuple[float, ...]] = {
    "utilisation": (0.0, 100.0),
    "memory_gib": (0.0,),
    "power_w": (0.0,),
    "temperature_c": (),
}
_RATES = (
    "pass_at_1",
    "clipped_ratio",
    "no_answer_ratio",
    "no_answer",
    "val/truncated",
    "frac_zero_std",
    "reward/correct",
    "clip_ratio/low_mean",
    "clip_ratio/high_mean",
)
GROUPS = ("train", "reward", "validation", "sampling", "time", "GPU")
# Arms whose lengths differ more than this many times do not share an x-axis.
SQUEEZE = 4.0


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: metric without its source, title, and sources.

    A source is an arm, or a GPU as `gpu/0`. `kind` separates charts of one metric: the stage that trains the
    arms, or the arms themselves.
    """

    metric: str
    title: str
    sources: tuple[str, ...]
    kind: str = ""

    @property
    def key(self) -> str:
        """Return the name that identifies the chart among those of any run."""
        return f"{self.metric}@{self.kind}" if self.kind else self.metric

    @property
    def group(self) -> str:
        """Return the group of the chart, one of GROUPS."""
        return group(self.metric)

    @property
    def percent(self) -> bool:
        """Return True if values are rates in [0, 1]."""
        return is_rate(self.metric)

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


def title(metric: str) -> str:
    """Return the words for a metric without its source, with the unit."""
    return _TITLES.get(metric, metric)


def is_rate(metric: str) -> bool:
    """Return True if the values of a metric are rates in [0, 1]."""
    return metric.endswith(_RATES)


def group(metric: str) -> str:
    """Return the group of a metric without its source, one of GROUPS."""
    if metric in _HELD:
        return "GPU"
    if metric.endswith(("per_second", "_seconds")):
        return "time"
    first = metric.partition("/")[0]
    groups = {"reward": "reward", "val": "validation", "eval": "validation"}
    sampled = ("completions", "sampling", "worker")
    return "sampling" if first in sampled else groups.get(first, "train")


def rank(metric: str) -> tuple[int, int, str]:
    """Return the sort key of a metric without its source.

    The known metrics come first, then the others by group and name.
    """
    known = list(_TITLES)
    return known.index(metric) if metric in _TITLES else len(known), GROUPS.index(group(metric)), metric


def panels(
    metrics: Iterable[str],
    arms: Iterable[str],
    stages: Mapping[str, str] | None = None,
    lengths: Mapping[str, float] | None = None,
) -> tuple[Panel, ...]:
    """Return the charts for `metrics`, the most important first.

    Args:
        metrics: names with their sources.
        arms: the run's arms, in the profile's order.
        stages: arm → stage that trains it.
        lengths: arm → its number of steps, as far as it is known.
    """
    order, stages, lengths = list(arms), stages or {}, lengths or {}
    found: dict[str, list[str]] = {metric: [] for metric in _ALWAYS}
    for metric in sorted(metrics):
        source, rest = split(metric)
        if source in order or rest in _HELD:
            found.setdefault(rest, []).append(source)
    made: list[Panel] = []
    for rest in sorted(found, key=rank):
        if rest in _HELD:
            made.append(Panel(rest, title(rest), tuple(sorted(found[rest], key=_number))))
            continue
        sources = sorted(found[rest], key=order.index)
        if group(rest) == "train":
            made += _by_stage(rest, sources, order, stages)
        else:
            made += _by_length(rest, sources, lengths)
    return tuple(made)


def filled(charts: tuple[Panel, ...]) -> tuple[Panel, ...]:
    """Return the charts that have values; all if none has."""
    return tuple(one for one in charts if one.sources) or charts


def _by_stage(
    metric: str, sources: Sequence[str], arms: Sequence[str], stages: Mapping[str, str]
) -> list[Panel]:
    """Return a chart for each stage that trains an arm of `sources`.

    The charts in _ALWAYS exist for the stages of all arms.
    """
    wanted = arms if metric in _ALWAYS else sources
    kinds = list(dict.fromkeys(stages[arm] for arm in wanted if arm in stages)) or [""]
    if any(arm not in stages for arm in sources) and "" not in kinds:
        kinds.append("")
    several = len({stages.get(arm, "") for arm in arms}) > 1
    return [
        Panel(
            metric,
            f"{kind} {title(metric)}" if several and kind else title(metric),
            tuple(arm for arm in sources if stages.get(arm, "") == kind),
            kind if several else "",
        )
        for kind in kinds
    ]


def _by_length(metric: str, sources: Sequence[str], lengths: Mapping[str, float]) -> list[Panel]:
    """Return charts in which no arm is squeezed by a longer one.

    Arms of unknown length join the longest.
    """
    longest = max((lengths.get(arm, 0.0) for arm in sources), default=0.0)
    parts: list[list[str]] = [[]]
    end = longest
    for arm in sorted(sources, key=lambda arm: -(lengths.get(arm) or longest)):
        length = lengths.get(arm) or longest
        if parts[-1] and length * SQUEEZE < end:
            parts.append([])
            end = length
        parts[-1].append(arm)
    if len(parts) == 1:
        return [Panel(metric, title(metric), tuple(sources))]
    names = [[arm for arm in sources if arm in part] for part in parts]
    names.sort(key=lambda part: sources.index(part[0]))
    return [Panel(metric, f"{'+'.join(part)} {title(metric)}", tuple(part), "+".join(part)) for part in names]


def _number(gpu: str) -> int:
    return int(gpu.partition("/")[2])
