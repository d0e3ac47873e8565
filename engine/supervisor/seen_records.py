"""The records that a run already has.

A restarted process repeats some, which are dropped.
The identity of a record is defined in store/records.py. This module has no side effects. Memory for scalars
is bounded: only the newest steps of a metric are stored one by one, and every older step counts as known.
"""

from __future__ import annotations

from store.records import Event, Example, Record, Scalar

RECENT_STEPS = 10_000


class SeenRecords:
    """The identities of all records so far."""

    def __init__(self) -> None:
        # Every step of the metric below this one is known.
        self._below: dict[str, int] = {}
        self._steps: dict[str, set[int]] = {}
        self._examples: set[tuple[str, int, str, str, int]] = set()
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
            key = (record.arm, record.step, record.task, record.ex_id, record.sample)
            if key in self._examples:
                return False
            self._examples.add(key)
        return True

    def has_event(self, event: Event) -> bool:
        """Return True if the same event with the same time was remembered.

        It is used for spooled events.
        """
        return _event_key(event) in self._events

    def _add_scalar(self, scalar: Scalar) -> bool:
        steps = self._steps.setdefault(scalar.metric, set())
        if scalar.step < self._below.get(scalar.metric, -1) or scalar.step in steps:
            return False
        steps.add(scalar.step)
        if len(steps) > RECENT_STEPS:
            newest = sorted(steps)[-RECENT_STEPS // 2 :]
            self._below[scalar.metric] = newest[0]
            self._steps[scalar.metric] = set(newest)
        return True


def _event_key(event: Event) -> tuple[str, str, str, str, int, float]:
    return (event.kind, event.message, event.stage, event.arm, event.step, event.ts)
