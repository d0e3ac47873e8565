"""Other programs that hold what the store needs: a database client, the lock files, one of our own that is stopped."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.faults.faultkind import Fault
from tests.faults.not_possible import NotPossible
from tests.faults.subject import Subject

_CLIENT = """
import duckdb, sys, time
for _ in range(400):
    try:
        connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
        break
    except duckdb.Error:
        time.sleep(0.01)
print("held", flush=True)
time.sleep(600)
"""
_HOLDER = """
import fcntl, os, signal, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
signal.alarm(20)
fcntl.flock(file, fcntl.LOCK_EX if sys.argv[2] == "exclusive" else fcntl.LOCK_SH)
signal.alarm(0)
print("held", flush=True)
time.sleep(600)
"""
# What a user may do meanwhile; the first five must not depend on the store.
_CONTROLS = ("stop", "kill", "pause", "checkpoint", "status")
_REPORTS = (("runs",), ("sql", "select count(*) from scalar"))


@contextmanager
def _client(subject: Subject, rng: random.Random, *, mode: str) -> Iterator[str]:
    if not subject.store.exists():
        raise NotPossible("there is no store yet")
    with subject.stranger(_CLIENT, str(subject.store), mode):
        yield f"a DuckDB client holds the store, {mode}; {_meanwhile(subject, rng)}"


@contextmanager
def _lock(
    subject: Subject, rng: random.Random, *, name: str, mode: str, stopped: bool = False
) -> Iterator[str]:
    with subject.stranger(_HOLDER, str(subject.home / name), mode) as holder:
        if stopped:
            holder.send_signal(signal.SIGSTOP)
        yield f"{name} is held {mode}{' by a stopped process' * stopped}; {_meanwhile(subject, rng)}"


@contextmanager
def _stopped_command(subject: Subject, rng: random.Random) -> Iterator[str]:
    """One of the product's own commands is stopped at a random instant of its life."""
    arguments = rng.choice(
        (("status", subject.run_id), ("runs",), ("export", subject.run_id, "--out", "ex2"))
    )
    process = subject.popen(*arguments)
    time.sleep(rng.uniform(0.05, 0.8))
    process.send_signal(signal.SIGSTOP)
    try:
        yield f"`{arguments[0]}` was stopped; {_meanwhile(subject, rng)}"
    finally:
        process.send_signal(signal.SIGCONT)
        subject.heard(arguments, process.wait(150.0), process)


def _meanwhile(subject: Subject, rng: random.Random) -> str:
    """What the user does meanwhile: nothing, a command to the run, a report."""
    kind = rng.choice(("nothing", "control", "report"))
    if kind == "nothing":
        return "nothing meanwhile"
    arguments = (rng.choice(_CONTROLS), subject.run_id) if kind == "control" else rng.choice(_REPORTS)
    said = subject.cli(*arguments)
    if kind == "control" and said.status and re.search("store|busy|database", said.last_line):
        subject.notes.append(f"UNNAMED: a control command depends on the store: {said}")
    if arguments[0] == "pause":
        subject.cli("resume", subject.run_id)
    return f"{arguments[0]} meanwhile: exit {said.status}"


def _fault(name: str, strike: object) -> Fault:
    return Fault("strangers", name, strike, holds=8.0)  # type: ignore[arg-type]


FAULTS = (
    _fault("a DuckDB client, read-only", partial(_client, mode="read")),
    _fault("a DuckDB client, read-write", partial(_client, mode="write")),
    _fault("store.gate held", partial(_lock, name="store.gate", mode="exclusive")),
    _fault("store.gate held, shared", partial(_lock, name="store.gate", mode="shared")),
    _fault(
        "store.gate held by a stopped process",
        partial(_lock, name="store.gate", mode="exclusive", stopped=True),
    ),
    _fault("store.lock held", partial(_lock, name="store.lock", mode="exclusive")),
    _fault("one of our commands stopped", _stopped_command),
)
