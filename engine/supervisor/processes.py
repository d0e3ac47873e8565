"""A child process as its supervisor sees it: one connection, its group, its end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import send_handle
from multiprocessing.resource_tracker import ensure_running
from typing import Any, Literal

from engine.processes.child import run_trainer, run_worker
from engine.processes.faults import last_error
from engine.processes.log_parts import mark, written_after
from engine.processes.no_bars import NO_BARS
from engine.processes.orders import Acknowledged, FromChild, FromSupervisor, NewLink, Order, Outcome, Verb
from engine.processes.process_tree import kill_marked, marks
from store.home import RunFolder

Role = Literal["trainer", "worker"]
SPAWN = get_context("spawn")


class Child:
    """A running trainer or worker."""

    def __init__(
        self, role: Role, folder: RunFolder, process: SpawnProcess, connection: Connection[Any, Any]
    ) -> None:
        self.role: Role = role
        self._folder = folder
        self.process = process
        self.connection = connection
        self.outcome: Outcome | None = None
        self.fault = ""  # the error that ended it, in one line
        self._log = folder.logs / f"{role}.log"
        self._log_start = mark(self._log)
        self.is_open = True  # its connection has not ended yet
        self.leaves_by: float | None = None  # it was told to end by then, on the monotonic clock
        self._acknowledged = 0

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def order(self, verb: Verb) -> None:
        """Sends a command; a dead child is none's concern here."""
        self._send(Order(verb))

    def dismiss(self, grace: float) -> None:
        """Tells it to end, in `grace` seconds at most; its end is no death."""
        self.leaves_by = time.monotonic() + grace
        self.order("stop")

    def acknowledge(self, records: int) -> None:
        """So many more of its records are in the journal."""
        self._acknowledged += records
        self._send(Acknowledged(self._acknowledged))

    def link(self, reading: Connection[Any, Any], writing: Connection[Any, Any]) -> None:
        """Hands over its ends of new channels."""
        self._send(NewLink())
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            send_handle(self.connection, reading.fileno(), self.pid)
            send_handle(self.connection, writing.fileno(), self.pid)

    def receive(self) -> FromChild:
        """What it says next; nothing, and `is_open` false, at the end of its connection."""
        try:
            messages: FromChild = self.connection.recv()
        except (
            EOFError,
            OSError,
        ):  # OSError: it died in the middle of a message, or before it read all of ours
            self.is_open = False
            return []
        return messages

    def has_ended(self) -> bool:
        """Whether the process is over."""
        return self.process.exitcode is not None

    def kill(self) -> None:
        """Ends it and all that it started, at once."""
        kill_marked(self._folder, self.role)

    def reap(self) -> str:
        """After its end: frees it, and says how it ended."""
        self.connection.close()
        code = self.process.exitcode
        assert code is not None
        if self.leaves_by is not None and code == -signal.SIGKILL:
            return f"{self.role} was killed: it was told to end, and had not in time"
        if code > 0 and self.outcome is None and not self.fault:
            self.fault = last_error(written_after(self._log, self._log_start))
        return how_it_ended(self.role, code, self.fault)

    def _send(self, message: FromSupervisor) -> None:
        if self.connection.closed:
            return  # it is dead and buried, and its last records have come to the journal
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)


def start_trainer(main: str, folder: RunFolder, has_worker: bool, held: object, threads: int) -> Child:
    """Spawns the trainer process; `held` is kept open in it as long as it lives."""
    ours, theirs = SPAWN.Pipe(duplex=True)
    process = SPAWN.Process(target=run_trainer, args=(main, folder, theirs, has_worker, held), name="trainer")
    return _start("trainer", folder, process, ours, theirs, threads)


def start_worker(main: str, folder: RunFolder, trainer_idle: bool, held: object, threads: int) -> Child:
    """Spawns the worker process."""
    ours, theirs = SPAWN.Pipe(duplex=True)
    process = SPAWN.Process(target=run_worker, args=(main, folder, theirs, trainer_idle, held), name="worker")
    return _start("worker", folder, process, ours, theirs, threads)


def connect(trainer: Child, worker: Child) -> None:
    """Gives both a fresh pair of channels to each other."""
    jobs_out, jobs_in = SPAWN.Pipe(duplex=False)
    results_out, results_in = SPAWN.Pipe(duplex=False)
    worker.link(jobs_out, results_in)
    trainer.link(results_out, jobs_in)
    for connection in (jobs_out, jobs_in, results_out, results_in):
        connection.close()  # or nobody would ever see the other's end


def how_it_ended(role: str, code: int, fault: str = "") -> str:
    """Return an exit code in words, with the error that led to it and where to look."""
    if code == -signal.SIGKILL:
        return f"{role} was killed by SIGKILL (by hand, or by the kernel for want of memory); see logs/{role}.log"
    if code < 0:
        return f"{role} was killed by {signal.Signals(-code).name}; see logs/{role}.log"
    if code == 0:
        return f"{role} ended"
    if fault:
        return f"{role} ended: {fault}; exit status {code}, see logs/{role}.log"
    return f"{role} ended with exit status {code}; see logs/{role}.log"


def _start(
    role: Role,
    folder: RunFolder,
    process: SpawnProcess,
    ours: Connection[Any, Any],
    theirs: Connection[Any, Any],
    threads: int,
) -> Child:
    ensure_running()  # the tracker that all children share must not carry the mark of one
    with _environment(marks(folder, role), threads):
        process.start()
    theirs.close()
    return Child(role, folder, process, ours)


@contextmanager
def _environment(marks: dict[str, str], threads: int) -> Iterator[None]:
    """What must stand in the environment before the child's libraries are loaded."""
    # By bus, so that cuda:N is the N that the locks are for.
    wanted = {**marks, **NO_BARS, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if threads:
        wanted["OMP_NUM_THREADS"] = str(threads)
    before = dict(os.environ)
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
