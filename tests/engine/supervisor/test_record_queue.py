"""What reaches the journal: each record once, in order, acknowledged when it is there, also after a full disk."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from engine.supervisor import record_queue as module
from engine.supervisor.record_queue import BATCH, RecordQueue
from engine.supervisor.restarts import Restarts
from engine.supervisor.seen_records import RECENT_STEPS, SeenRecords
from store.records import Event, Example, Record, Scalar


class Journal:
    def __init__(self) -> None:
        self.batches: list[list[Record]] = []
        self.full = False

    def append(self, records: Sequence[Record]) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.batches.append(list(records))

    @property
    def records(self) -> list[Record]:
        return [record for batch in self.batches for record in batch]


class Source:
    def __init__(self) -> None:
        self.acknowledged = 0

    def acknowledge(self, records: int) -> None:
        self.acknowledged += records


def known(*records: Record) -> SeenRecords:
    """What a journal with `records` makes known."""
    found = SeenRecords()
    for record in records:
        found.remember(record)
    return found


def scalar(step: int, metric: str = "m", value: float = 0.0) -> Scalar:
    return Scalar(metric, step, value, 0.0)


def example(step: int, ex_id: str, sample: int = 0) -> Example:
    return Example("a", step, "t", ex_id, sample, True, 1.0, "correct", "", "", 1, ts=0.0)


def test_repeated_identities_are_kept_once_and_acknowledged_all_the_same() -> None:
    journal, source = Journal(), Source()
    recorder = RecordQueue(journal, known(scalar(0), scalar(1), example(1, "x")))
    assert not recorder.take([scalar(0), scalar(1, value=9.0), example(1, "x")], source)
    assert recorder.take(
        [scalar(2), scalar(1, "other"), example(1, "x", 1), example(2, "x"), scalar(2)], source
    )
    recorder.flush(now=True)
    assert journal.records == [scalar(2), scalar(1, "other"), example(1, "x", 1), example(2, "x")]
    assert source.acknowledged == 8


def test_a_late_step_is_no_repeated_one() -> None:
    fresh = SeenRecords()
    assert [fresh.add(scalar(step)) for step in (50, 75, 25, 75, 25)] == [True, True, True, False, False]


def test_old_steps_count_as_known_in_bounded_memory() -> None:
    fresh = SeenRecords()
    for step in range(3 * RECENT_STEPS):
        assert fresh.add(scalar(step))
    assert len(fresh._steps["m"]) <= RECENT_STEPS
    assert not any(fresh.add(scalar(step)) for step in range(0, 3 * RECENT_STEPS, 997))


def test_events_repeat_freely_but_a_spooled_one_that_is_there_does_not_come_again() -> None:
    journal = Journal()
    old, new = Event("log", "old", ts=1.0), Event("log", "new", ts=2.0)
    recorder = RecordQueue(journal, known(old))
    recorder.take([old])
    recorder.enqueue_spooled([old, new, scalar(1)])
    recorder.flush(now=True)
    assert journal.records == [old, new, scalar(1)]


def test_batches_wait_for_company_but_not_when_full_or_hurried() -> None:
    recorder = RecordQueue(Journal(), SeenRecords())
    assert recorder.wait() is None
    recorder.take([scalar(0)])
    assert 0.0 < (recorder.wait() or 0.0) <= 0.2
    recorder.flush_soon()
    assert recorder.wait() == 0.0
    recorder.flush()
    recorder.take(scalar(step) for step in range(1, BATCH + 1))
    assert recorder.wait() == 0.0


def test_a_full_disk_holds_records_back_shows_itself_and_loses_nothing() -> None:
    journal, source = Journal(), Source()
    recorder = RecordQueue(journal, SeenRecords())
    journal.full = True
    recorder.take((scalar(step) for step in range(module.CAPACITY)), source)
    recorder.flush(now=True)
    assert recorder.trouble.startswith(
        "journal cannot be written: No space left on device; 20000 records wait"
    )
    assert recorder.is_full
    assert source.acknowledged == 0
    recorder.flush_soon()
    assert (recorder.wait() or 0.0) > 0.0  # no busy loop over a full disk
    journal.full = False
    recorder.flush(now=True)
    assert recorder.trouble == ""
    assert recorder.is_empty
    assert source.acknowledged == module.CAPACITY
    assert [record for record in journal.records if isinstance(record, Scalar)] == [
        scalar(step) for step in range(module.CAPACITY)
    ]
    assert max(map(len, journal.batches)) <= BATCH
    assert any(
        isinstance(record, Event) and "nothing was lost" in record.message for record in journal.records
    )


def test_restarts_back_off_and_end() -> None:
    restarts = Restarts(limit=4)
    assert [restarts.count_crash() for _ in range(5)] == [0.0, 1.0, 2.0, 4.0, None]
    restarts.reset()
    assert restarts.count_crash() == 0.0
    assert Restarts(limit=0).count_crash() is None


def test_the_same_error_twice_ends_the_restarts_and_a_kill_does_not() -> None:
    restarts = Restarts(limit=9)
    assert restarts.count_crash("KeyError: 'a' at 0x7f01") == 0.0
    assert restarts.count_crash("KeyError: 'b'") == 1.0
    assert restarts.count_crash() == 2.0
    assert restarts.count_crash() == 4.0
    assert restarts.count_crash("KeyError: 'b'") is None
    restarts.reset()
    assert restarts.count_crash("KeyError: 'b' at 0x7f02") == 0.0
    assert restarts.count_crash("KeyError: 'b' at 0x7f03") is None


@pytest.mark.parametrize(
    "fault",
    [
        "OutOfMemoryError: CUDA out of memory",
        "ConnectError: refused",
        "OSError: [Errno 28] No space left on device",
    ],
)
def test_errors_that_may_pass_are_tried_up_to_the_limit(fault: str) -> None:
    restarts = Restarts(limit=3)
    assert [restarts.count_crash(fault) for _ in range(4)] == [0.0, 1.0, 2.0, None]
