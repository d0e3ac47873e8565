"""The records that a run already has.

A restarted process repeats some, which are dropped.
The identity of a record is defined in store/records.py. This module has no side effects. Memory for scalars
is bounded: only the newest steps of a metric are stored one by one, and every older step counts as known.
"""

from __future__ import annotations

from collections.abc import Set

from store.records import Event, Example, Record, Scalar

RECENT_STEPS = 10_000


class SeenRecords:
    """The identities of all records so far."""

    def __init__(self) -> None:
        # Every step of the metric below this one is known.
        self._below: dict[str, int] = {}
        self._steps: dict[str, set[int]] = {}
        # The rows (question, sample) of each arm, step and task.
        self._examples: dict[tuple[str, int, str], set[tuple[str, int]]] = {}
        self._events: set[tuple[str, str, str, str, int, float]] = set()

    def remember(self, record: Record) -> None:
        """Add a record that is in the journal of an earlier supervisor."""
        self.add(record)
        if isinstance(record, Event):
            self._events.add(_event_key(record))

    def add(self, record: Record) -> bool:
        """Add `record` and return True if it is new.

        Events of running processes are always new.
        """
        if isinstance(record, Scalar):
            return self._add_scalar(record)
        if isinstance(record, Example):
            rows = self._examples.setdefault((record.arm, record.step, record.task), set())
            if (record.ex_id, record.sample) in rows:
                return False
            rows.add((record.ex_id, record.sample))
        return True

    def examples(self, arm: str, step: int, task: str) -> Set[tuple[str, int]]:
        """Return (question id, sample) of each known row of a task."""
        return self._examples.get((arm, step, task), set())

    def has_scalar(self, metric: str, step: int) -> bool:
        """Return True if the metric's value at `step` is known.

        Every step below the newest RECENT_STEPS / 2 may count as known.
        """
        return step < self._below.get(metric, -1) or step in self._steps.get(metric, ())

    def furthest(self, arm: str) -> int:
        """Return the furthest training step of `arm` with a known metric, or 0."""
        own = (metric for metric in self._steps if metric.startswith(f"{arm}/") and "/eval/" not in metric)
        return max((max(self._steps[metric]) for metric in own), default=0)

    def has_event(self, event: Event) -> bool:
        """Return True if the same event with the same time was remembered.

        It is used for spooled events.
        """
        return _event_key(event) in self._events

    def _add_scalar(self, scalar: Scalar) -> bool:
        steps = self._steps.setdefault(scalar.metric, set())
        if self.has_scalar(scalar.metric, scalar.step):
            return False
        steps.add(scalar.step)
        if len(steps) > RECENT_STEPS:
            newest = sorted(steps)[-RECENT_STEPS // 2 :]
            self._below[scalar.metric] = newest[0]
            self._steps[scalar.metric] = set(newest)
        return True


def _event_key(event: Event) -> tuple[str, str, str, str, int, float]:
    return (event.kind, event.message, event.stage, event.arm, event.step, event.ts)
