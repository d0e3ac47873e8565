"""A fault of the table: its name, its family and what it does to a run."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.faults.subject import Subject

# Does the fault on entering, undoes it (makes room, ends the stranger) on leaving; what it did is in the value.
Strike = Callable[[Subject, random.Random], AbstractContextManager[str]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of the table.

    Attributes:
        at_rest: the run is brought to rest first.
        holds: seconds (at most) between doing and undoing while the run goes on; 0: nothing to undo.
        weight: how often it is drawn, relative to the others of its family.
    """

    family: str
    name: str
    strike: Strike
    at_rest: bool = False
    holds: float = 0.0
    needs_mounts: bool = False
    needs_clock: bool = False
    weight: float = 1.0
