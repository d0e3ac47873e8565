"""The supervisor's view of a child process: connection, start and exit."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import send_handle
from multiprocessing.resource_tracker import ensure_running
from typing import Any, Literal

from engine.ipc.child import run_trainer, run_worker
from engine.ipc.faults import last_error
from engine.ipc.log_parts import mark, written_after
from engine.ipc.no_bars import NO_BARS
from engine.ipc.orders import Acknowledged, FromChild, FromSupervisor, MainReturned, NewChannels, Order, Verb
from engine.ipc.process_tree import kill_marked, marks
from engine.machine.spawn import SPAWN, process_of
from store.home import RunFolder

Role = Literal["trainer", "worker"]


class ChildProcess:
    """A running trainer or worker."""

    def __init__(
        self, role: Role, folder: RunFolder, process: SpawnProcess, connection: Connection[Any, Any]
    ) -> None:
        self.role: Role = role
        self._folder = folder
        self.process = process
        self.connection = connection
        self.main_returned: MainReturned | None = None
        # The error that ended the process, in one line.
        self.fault = ""
        self._log = folder.logs / f"{role}.log"
        self._log_start = mark(self._log)
        # True until the connection reaches its end.
        self.is_open = True
        # Deadline of a requested exit, in seconds of the monotonic clock.
        self.stop_deadline: float | None = None
        self._acknowledged = 0

    @property
    def pid(self) -> int:
        """Return the process id."""
        assert self.process.pid is not None
        return self.process.pid

    def send_command(self, verb: Verb) -> None:
        """Send a command to the child. Ignore a child that has exited."""
        self._send(Order(verb))

    def stop_within(self, grace: float) -> None:
        """Ask the child to stop within `grace` seconds.

        Its exit then does not count as a crash. This function does not wait; see
        `EngineProcesses.enforce_deadlines`.
        """
        self.stop_deadline = time.monotonic() + grace
        self.send_command("stop")

    def acknowledge(self, records: int) -> None:
        """Count `records` more journaled records; send the child the total."""
        self._acknowledged += records
        self._send(Acknowledged(self._acknowledged))

    def send_channels(self, reading: Connection[Any, Any], writing: Connection[Any, Any]) -> None:
        """Send the child its ends of new channels."""
        self._send(NewChannels())
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            send_handle(self.connection, reading.fileno(), self.pid)
            send_handle(self.connection, writing.fileno(), self.pid)

    def receive(self) -> FromChild:
        """Return the next batch of messages; blocks until one arrives.

        When the child has closed the connection, clear `is_open` and return [].
        """
        try:
            messages: FromChild = self.connection.recv()
        # OSError: the child was killed in the middle of a message, or before it read all messages.
        except (EOFError, OSError):
            self.is_open = False
            return []
        return messages

    def has_exited(self) -> bool:
        """Return True if the process has exited."""
        return self.process.exitcode is not None

    def kill(self) -> None:
        """Kill the process and every process that it started."""
        kill_marked(self._folder, self.role)

    def collect_exit(self) -> str:
        """Close the connection of an exited process; return how it ended.

        The text is one line with the error that caused the exit, if there was one.
        """
        self.connection.close()
        code = self.process.exitcode
        assert code is not None
        if self.stop_deadline is not None and code == -signal.SIGKILL:
            return f"{self.role} was killed: it did not exit in time after a stop"
        if code > 0 and self.main_returned is None and not self.fault:
            self.fault = last_error(written_after(self._log, self._log_start))
        return how_it_ended(self.role, code, self.fault)

    def _send(self, message: FromSupervisor) -> None:
        if self.connection.closed:
            # The child was reaped, and its last records are only now written to the journal.
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)


def start_trainer(main: str, folder: RunFolder, has_worker: bool, held: object, threads: int) -> ChildProcess:
    """Spawn the trainer process.

    It holds `held` (inherited locks) until it exits.
    """
    ours, theirs = SPAWN.Pipe(duplex=True)
    process = process_of("trainer", run_trainer, main, folder, theirs, has_worker, held)
    return _start("trainer", folder, process, ours, theirs, threads)


def start_worker(
    main: str, folder: RunFolder, trainer_idle: bool, held: object, threads: int
) -> ChildProcess:
    """Spawn the worker process; see `start_trainer`."""
    ours, theirs = SPAWN.Pipe(duplex=True)
    process = process_of("worker", run_worker, main, folder, theirs, trainer_idle, held)
    return _start("worker", folder, process, ours, theirs, threads)


def connect(trainer: ChildProcess, worker: ChildProcess) -> None:
    """Send both processes a new pair of channels to each other."""
    jobs_out, jobs_in = SPAWN.Pipe(duplex=False)
    results_out, results_in = SPAWN.Pipe(duplex=False)
    worker.send_channels(jobs_out, results_in)
    trainer.send_channels(results_out, jobs_in)
    for connection in (jobs_out, jobs_in, results_out, results_in):
        # An end that stayed open here would hide the exit of the process that owns the other copy.
        connection.close()


def how_it_ended(role: str, code: int, fault: str = "") -> str:
    """Describe exit `code` of the process `role` in one line.

    A negative code is the number of the signal that killed it.
    Args:
        fault: the error that caused the exit, "" if unknown; the line then names the log to read.
    """
    if code == -signal.SIGKILL:
        return (
            f"{role} was killed by SIGKILL (by a user, or by the kernel: out of memory); see logs/{role}.log"
        )
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
) -> ChildProcess:
    # All children share one resource tracker. Start it here, so that it does not carry the mark of one child.
    ensure_running()
    with _environment(marks(folder, role), threads):
        process.start()
    theirs.close()
    return ChildProcess(role, folder, process, ours)


@contextmanager
def _environment(marks: dict[str, str], threads: int) -> Iterator[None]:
    """Set the environment that the child's libraries read on import.

    It is restored afterwards.
    """
    # Order GPUs by bus, so that cuda:N is the GPU that lock N stands for.
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
