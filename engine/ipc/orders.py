"""Messages between a supervisor and its children.

Each child has one connection.

    supervisor ── Order, Acknowledged, NewChannels ─▶ child
    supervisor ◀─ batches of records and notices ─ child

Both sides run the same installation from the same start, so the messages are pickled and carry no version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from store.records import Record

# Exit status of a trainer that completed its plan although parts of a stage failed.
INCOMPLETE = 4
# Exit status of a trainer that needs an arm again whose last checkpoint was damaged: start another trainer.
REOPENED = 5

Verb = Literal["stop", "abort", "leave", "pause", "resume", "checkpoint"]


@dataclass(frozen=True, slots=True)
class Order:
    """A command to a child.

    `stop` ends after the current step. `abort` also ends a wait for a worker that will not be restarted.
    `leave` ends like `stop` but starts no checkpoint, because only seconds are left.
    """

    verb: Verb


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Reports that this child's first `records` records are journaled."""

    records: int


@dataclass(frozen=True, slots=True)
class NewChannels:
    """Announces new channels to the other child.

    Two file descriptors follow, for reading and for writing.
    """


@dataclass(frozen=True, slots=True)
class Flush:
    """Requests an immediate write to the journal.

    The child waits for its acknowledgement.
    """


@dataclass(frozen=True, slots=True)
class Paused:
    """Reports that the trainer is paused between two steps."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Reports that the trainer has resumed."""


@dataclass(frozen=True, slots=True)
class Trained:
    """Reports that no remaining step trains.

    The worker may use the trainer's GPUs.
    """


@dataclass(frozen=True, slots=True)
class Leaving:
    """Reports that the trainer stops, saves and exits.

    It needs no further results from the worker.
    """


@dataclass(frozen=True, slots=True)
class MainReturned:
    """Reports the `status` that the child's main function returned.

    0: done; 1: failed; 3: stopped by request; 4: done with failures; 5: an arm has to be trained again.
    """

    status: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Reports that the child exits because of the error in `line`."""

    line: str


Notice = Flush | Paused | Resumed | Trained | Leaving | MainReturned | Fault
FromSupervisor = Order | Acknowledged | NewChannels
FromChild = list[Record | Notice]
