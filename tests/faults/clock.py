"""The wall clock jumps, forwards and backwards, and stays there."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.faults.faultkind import Fault
from tests.faults.subject import Subject

_JUMPS = {
    "forward 90 seconds": 90.0,
    "back 90 seconds": -90.0,
    "forward an hour": 3600.0,
    "back an hour": -3600.0,
    "forward 400 days": 400 * 86400.0,
    "back 400 days": -400 * 86400.0,
    "back to 1970": -1.7e9,
}


@contextmanager
def _jump(subject: Subject, rng: random.Random, *, seconds: float) -> Iterator[str]:
    (before,) = struct.unpack("<d", subject.clock.read_bytes())
    # The file is mapped by every process of the run: written in place, never replaced.
    with subject.clock.open("r+b") as file:
        file.write(struct.pack("<d", max(before + seconds, -1.7e9)))
    yield f"the clock moved by {seconds:+.0f} s"


FAULTS = tuple(
    Fault("clock", name, partial(_jump, seconds=seconds), needs_clock=True)
    for name, seconds in _JUMPS.items()
)
