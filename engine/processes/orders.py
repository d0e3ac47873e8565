"""What a supervisor and its children say to each other over their one connection.

Downwards go orders, acknowledgements and new links; upwards go batches of records and notices. Both sides are of one
installation and one start, so the messages travel pickled and carry no version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from store.records import Record

INCOMPLETE = 4  # exit status of a trainer whose plan ran to its end while parts of a stage failed

Verb = Literal["stop", "abort", "leave", "pause", "resume", "checkpoint"]


@dataclass(frozen=True, slots=True)
class Order:
    """A command. `stop` ends after the current step; `abort` also ends a wait for a worker that will not come back.

    `leave` ends as `stop` does, but begins no checkpoint: whoever sends it has seconds only.
    """

    verb: Verb


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """So many records of this child, from its start, are in the journal."""

    records: int


@dataclass(frozen=True, slots=True)
class NewLink:
    """A fresh pair of channels to the other child: two file descriptors follow, to read from and to write to."""


@dataclass(frozen=True, slots=True)
class Flush:
    """The child waits until its records are in the journal: do not wait for the batch to fill."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The trainer waits between two steps."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The trainer goes on."""


@dataclass(frozen=True, slots=True)
class Trained:
    """No step of the run trains any more: what the trainer had of its GPUs is free for the worker."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """The trainer stops where it is, saves and ends: it waits for no more answers, and the worker may end at once."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The child's main function returned `status`: 0 done, 1 failed, 3 stopped by request, 4 done with failures."""

    status: int


@dataclass(frozen=True, slots=True)
class Fault:
    """The child ends because of an error, which `line` describes."""

    line: str


Notice = Flush | Paused | Resumed | Trained | Leaving | Outcome | Fault
FromSupervisor = Order | Acknowledged | NewLink
FromChild = list[Record | Notice]
