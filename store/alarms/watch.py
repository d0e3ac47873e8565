"""All scalar rules of one run.

Each rule fires once for each metric: the alarm lasts until the run ends or is started again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from store.alarms import collapse, explosion, idle_gpu, mismatch, not_finite
from store.alarms.finding import AlarmFinding, Rule
from store.records import Record, Scalar


class Watch:
    """Feeds each scalar to the rules of its metric."""

    def __init__(self) -> None:
        # Metric → rules that have not fired yet; empty for a metric without rules.
        self._rules: dict[str, dict[str, Rule]] = {}

    def take(self, records: Iterable[Record]) -> Iterator[AlarmFinding]:
        """Yield what the rules find in `records`."""
        for record in records:
            if isinstance(record, Scalar):
                yield from self._found(record)

    def _found(self, scalar: Scalar) -> list[AlarmFinding]:
        rules = self._rules.get(scalar.metric)
        if rules is None:
            rules = self._rules[scalar.metric] = rules_of(scalar.metric)
        if not rules:
            return []
        found = [(name, words) for name, rule in rules.items() if (words := rule.take(scalar.value))]
        for name, _ in found:
            del rules[name]
        return [
            AlarmFinding(name, scalar.metric, scalar.step, f"{scalar.value:.6g}", words)
            for name, words in found
        ]


def rules_of(metric: str) -> dict[str, Rule]:
    """Return new rules for `metric` (ARM/GROUP/NAME, or gpu/N/NAME) by name."""
    rules: dict[str, Rule] = {}
    name = metric.partition("/")[2]
    if metric.startswith("gpu/"):
        return {idle_gpu.NAME: idle_gpu.IdleGpu()} if metric.endswith(idle_gpu.SUFFIX) else {}
    if name in not_finite.METRICS:
        rules[not_finite.NAME] = not_finite.NotFinite()
    if name in explosion.FLOORS:
        rules[explosion.NAME] = explosion.Explosion(explosion.FLOORS[name])
    if name == "reward/mean":
        rules[collapse.REWARD] = collapse.Collapse(rows=20, least=0.1, fraction=0.2)
    if name == "train/entropy":
        rules[collapse.ENTROPY] = collapse.Collapse(rows=20, least=0.05, fraction=0.05, highest=0.01)
    if name == mismatch.METRIC:
        rules[mismatch.NAME] = mismatch.Mismatch()
    return rules
