"""A clock that jumps: wall-clock time plus the seconds in the file that MATHRL_FAULTS_CLOCK names.

Python loads this module at its start if its folder is in PYTHONPATH. Monotonic time stays as it is, as it does when an
administrator or NTP sets a real clock.
"""

import mmap
import os
import struct
import time
from pathlib import Path


def _install(path: str) -> None:
    with Path(path).open("rb") as file:
        shared = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
    real, real_ns, localtime, gmtime, strftime = (
        time.time,
        time.time_ns,
        time.localtime,
        time.gmtime,
        time.strftime,
    )

    def offset() -> float:
        return struct.unpack("<d", shared[:8])[0]

    time.time = lambda: real() + offset()
    time.time_ns = lambda: real_ns() + int(offset() * 1e9)
    time.localtime = lambda seconds=None: localtime(time.time() if seconds is None else seconds)
    time.gmtime = lambda seconds=None: gmtime(time.time() if seconds is None else seconds)
    time.strftime = lambda form, at=None: strftime(form, time.localtime() if at is None else at)


if os.environ.get("MATHRL_FAULTS_CLOCK"):
    _install(os.environ["MATHRL_FAULTS_CLOCK"])
