"""Entry points, start and exit of every engine process.

    supervisor ── Order, Acknowledged, NewChannels ─▶ listener thread ─▶ control, channels, outbox
    supervisor ◀─ records and notices ─────────── outbox thread  ◀─ main function

Each process has its own session and holds its pid file. It writes everything that it and its libraries print
to its own log. A thread receives the supervisor's orders. If the supervisor dies, the process exits: the
trainer after a checkpoint at the next boundary, the worker at once.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from multiprocessing import Pipe, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any, NoReturn

from engine.ipc.channels import Receiver, Sender
from engine.ipc.faults import fault_line
from engine.ipc.orders import Acknowledged, Fault, FromSupervisor, MainReturned, NewChannels, Order, Verb
from engine.ipc.outbox import Outbox, spool_folder
from engine.ipc.pidfile import hold, pid_path
from engine.ipc.process_tree import kill_marked
from engine.ipc.step_control import StepControl
from engine.ipc.worker_client import WorkerClient
from engine.protocol.messages import WorkerRequest, WorkerResult
from store import isolated
from store.home import RunFolder
from store.private import FILE_MODE
from store.records import Record

# A main function gets the folder of its run and the interface to its process.
TrainerMain = Callable[[RunFolder, "TrainerChild"], int]
WorkerMain = Callable[[RunFolder, "WorkerChild"], None]

# Longest wait for the last records to be sent.
FLUSH_SECONDS = 30.0
# An orphaned worker that has not exited after this time is killed, with every process it started.
WORKER_GRACE_SECONDS = 5.0


class TrainerChild:
    """The trainer process as its main function sees it.

    It sends records and notices, receives commands and has the connection to the worker; `generation` is None
    for a run without one.
    """

    def __init__(self, outbox: Outbox, generation: WorkerClient | None) -> None:
        self._outbox = outbox
        self.control = StepControl(outbox.put, outbox.flush)
        self.generation = generation

    def emit(self, record: Record) -> None:
        """Send `record` to the journal."""
        self._outbox.put(record)

    def report_fault(self, line: str) -> None:
        """Send the error that ends this process, after all records before it.

        Blocks for up to FLUSH_SECONDS twice. Nothing can be sent afterwards.
        Args:
            line: the error as one line.
        """
        self._outbox.put(Fault(line))
        self._outbox.close(FLUSH_SECONDS)


class WorkerChild:
    """The interface of a worker's main function to its process.

    `jobs` and `results` are connected to the current trainer. `trainer_idle` is True if no remaining step of
    the run trains. The worker may then use the trainer's GPUs too.
    """

    def __init__(self, outbox: Outbox, trainer_idle: bool) -> None:
        self._outbox = outbox
        self.trainer_idle = trainer_idle
        self._interrupt, self._interrupter = Pipe(duplex=False)
        self._changed = threading.Condition()
        self._next: tuple[Connection[Any, Any], Connection[Any, Any]] | None = None
        self._stop = False
        self.jobs: Receiver[WorkerRequest]
        self.results: Sender[WorkerResult]

    def emit(self, record: Record) -> None:
        """Send `record` to the journal."""
        self._outbox.put(record)

    def await_trainer(self) -> bool:
        """Wait for a trainer and connect `jobs` and `results` to it.

        Call it after ChannelClosed, when all work for the previous trainer has been dropped.

        Returns: False if the worker must exit.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stop or self._next is not None)
            if self._stop or self._next is None:
                return False
            jobs, results = self._next
            self._next = None
        if hasattr(self, "jobs"):
            self.jobs.close()
            self.results.close()
        self.jobs = Receiver(jobs, interrupt=self._interrupt)
        self.results = Sender(results)
        return True

    def connect(self, jobs: Connection[Any, Any], results: Connection[Any, Any]) -> None:
        """Provide the channels to a new trainer.

        `await_trainer` returns when they are there.
        """
        with self._changed:
            self._next = (jobs, results)
            self._changed.notify_all()

    def stop(self) -> None:
        """End every wait.

        The channels then raise ChannelClosed, and `await_trainer` returns False.
        """
        with self._changed:
            if not self._stop:
                self._stop = True
                self._interrupter.send_bytes(b"stop")
            self._changed.notify_all()


def run_trainer(
    main: str, folder: RunFolder, connection: Connection[Any, Any], has_worker: bool, held: object
) -> None:
    """Run the trainer in this process, and exit when it ends.

    Args:
        main: the main function as "module:function".
        connection: to the supervisor.
        held: inherited locks, which this process holds until it exits.
    """
    termination = _begin("trainer", folder)
    outbox = Outbox(connection, _spool(folder, "trainer"))
    link = WorkerClient()
    child = TrainerChild(outbox, link if has_worker else None)
    control = child.control

    def orphaned() -> None:
        outbox.orphan()
        control.stop()
        link.end()

    def abort() -> None:
        control.stop()
        link.end()

    verbs: dict[Verb, Callable[[], None]] = {
        "stop": control.stop,
        "abort": abort,
        "leave": control.leave,
        "pause": control.pause,
        "resume": control.resume,
        "checkpoint": control.checkpoint,
    }
    _listen(connection, termination, verbs, link.connect, outbox.acknowledge, orphaned)
    _end(_work(main, folder, child, outbox))


def run_worker(
    main: str, folder: RunFolder, connection: Connection[Any, Any], trainer_idle: bool, held: object
) -> None:
    """Run the worker process; see `run_trainer` for the arguments."""
    termination = _begin("worker", folder)
    outbox = Outbox(connection, _spool(folder, "worker"))
    child = WorkerChild(outbox, trainer_idle)

    def orphaned() -> None:
        outbox.orphan()
        child.stop()
        last_resort = threading.Timer(WORKER_GRACE_SECONDS, kill_marked, [folder, "worker"])
        last_resort.daemon = True
        last_resort.start()

    verbs: dict[Verb, Callable[[], None]] = {"stop": child.stop, "leave": child.stop}
    _listen(connection, termination, verbs, child.connect, outbox.acknowledge, orphaned)
    if child.await_trainer():
        _end(_work(main, folder, child, outbox))


def _begin(role: str, folder: RunFolder) -> Connection[Any, Any]:
    """Set up session, pid file, log and signals.

    Return a connection that is readable after SIGTERM.
    """
    os.setsid()
    log = open_log(folder.logs / f"{role}.log")
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")
    isolated.check()
    _make_descriptors_private()
    hold(pid_path(folder, role))
    faulthandler.enable()
    # `kill -USR1` writes every thread's stack to the log.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reader, writer = Pipe(duplex=False)
    # A signal handler can interrupt any code, so it must not take a lock. It writes a byte; the listener
    # reacts.
    signal.signal(signal.SIGTERM, lambda *_: os.write(writer.fileno(), b"t"))
    return reader


def open_log(log: Path) -> int:
    """Open a log file for appending; return its file descriptor.

    Raises: SystemExit with a one-line message if the file cannot be opened.
    """
    try:
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise SystemExit(
            f"{log}: the log cannot be written: {error.strerror}; make the disk writable, then resume the run"
        ) from None


def _make_descriptors_private() -> None:
    """Make descriptors non-inheritable.

    A grandchild that held these pipes would hide this process's exit.
    """
    for path in Path("/proc/self/fd").iterdir():
        # The descriptor of the listing itself is already closed.
        if int(path.name) > 2 and path.exists():
            os.set_inheritable(int(path.name), False)


def _listen(
    connection: Connection[Any, Any],
    termination: Connection[Any, Any],
    verbs: dict[Verb, Callable[[], None]],
    connect: Callable[[Connection[Any, Any], Connection[Any, Any]], None],
    acknowledge: Callable[[int], None],
    orphaned: Callable[[], None],
) -> None:
    """Start the thread that executes orders until the supervisor exits.

    SIGTERM counts as `leave`.
    """
    parent = parent_process()
    assert parent is not None, "an engine process must be started by its supervisor"

    def execute(message: FromSupervisor) -> None:
        if isinstance(message, Order):
            verbs[message.verb]()
        elif isinstance(message, Acknowledged):
            acknowledge(message.records)
        elif isinstance(message, NewChannels):
            reading = Connection(recv_handle(connection), writable=False)
            connect(reading, Connection(recv_handle(connection), readable=False))

    threading.Thread(
        target=_receive,
        args=(connection, termination, parent.sentinel, execute, verbs["leave"], orphaned),
        name="listener",
        daemon=True,
    ).start()


def _receive(
    connection: Connection[Any, Any],
    termination: Connection[Any, Any],
    supervisor: int,
    execute: Callable[[FromSupervisor], None],
    leave: Callable[[], None],
    orphaned: Callable[[], None],
) -> None:
    """Receive orders and SIGTERM until the supervisor exits.

    Then call `orphaned`.
    """
    watched: list[Any] = [connection, supervisor, termination]
    while True:
        ready = wait(watched)
        if termination in ready:
            watched.remove(termination)
            leave()
        try:
            if connection in ready:
                execute(connection.recv())
                continue
        except (EOFError, OSError):
            return orphaned()
        if supervisor in ready:
            return orphaned()


def _work(main: str, folder: RunFolder, child: TrainerChild | WorkerChild, outbox: Outbox) -> int:
    """Call the main function and return its status.

    An exception is reported, logged and ends the process.
    """
    module, _, function = main.partition(":")
    try:
        status: int = getattr(import_module(module), function)(folder, child) or 0
        outbox.put(MainReturned(status))
    except Exception as error:
        outbox.put(Fault(fault_line(error)))
        raise
    finally:
        outbox.close(FLUSH_SECONDS)
    return status


def _end(status: int) -> NoReturn:
    """Run the exit functions, flush the output and exit at once.

    Nothing can be sent after it.
    The exit functions remove temporary folders and semaphores. The flush writes what C libraries have
    printed. A normal interpreter exit would then free CUDA graphs and libraries one by one, and hold the GPU
    for another 4 s.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)
    os._exit(status)


def _spool(folder: RunFolder, role: str) -> Path:
    return spool_folder(folder) / f"{role}-{os.getpid()}.jsonl"
