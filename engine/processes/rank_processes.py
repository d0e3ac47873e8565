"""The trainer's further ranks: processes that share one stage with the trainer, which is rank 0, and end with it.

PyTorch's launcher for functions starts them, `torch.multiprocessing`. torchrun would start rank 0 too and restart
ranks by itself; here rank 0 is the process that holds the lines to supervisor and worker, and restarts are the
supervisor's. Whichever rank dies, all are gone at once, and the trainer is started again from its last checkpoint.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch.multiprocessing.spawn import start_processes

from engine import ranks
from engine.context import Context, StageFailed, StopRequested
from engine.processes.faults import last_error
from engine.processes.mirror import FollowingControl, FollowingGeneration, leading, silent
from engine.stages import stage
from profiles import Arm, Profile
from store.home import RunFolder
from store.private import touch, write_text
from store.records import Event

ECHO_SECONDS = 2.0  # how long after an error on rank 0 another rank may turn out to have died before it
PARTING_SECONDS = 60.0  # how long after rank 0 the others may still be at the stage; then they are killed


@dataclass(frozen=True, slots=True)
class Part:
    """What a further rank is told at its start."""

    folder: RunFolder
    profile: Profile
    seed: int
    stage: str
    arm: Arm | None
    has_worker: bool
    meeting: Path  # the file in which the ranks find each other

    def error_file(self, rank: int) -> Path:
        """Return where a further rank leaves the traceback that ended it."""
        return self.meeting.with_name(f"rank_{rank}.error")

    def join(self, rank: int) -> None:
        """Makes this process rank `rank` of the profile's."""
        hardware = self.profile.hardware
        ranks.join(rank, hardware.trainer_processes, hardware.trainer, self.meeting)

    def context(self) -> Context:
        """The stage's context on a further rank."""
        generation = FollowingGeneration() if self.has_worker else None
        control = FollowingControl()
        return Context(
            self.folder, self.profile, self.seed, self.stage, self.arm, silent, control, generation
        )


def run_on_ranks(context: Context, report: Callable[[str], None] = print) -> None:
    """Runs the context's stage on as many ranks as its profile asks for; this process is rank 0 until it is done.

    `report` is given the error of a further rank, in one line, before this process ends because of it.
    """
    meeting = context.folder.path / "ranks.meeting"
    touch(meeting)
    has_worker = context.generation is not None
    part = Part(
        context.folder, context.profile, context.seed, context.stage, context.arm, has_worker, meeting
    )
    with FurtherRanks(part, report) as others:
        arm = context.arm.name if context.arm is not None else ""
        message = f"trains on {len(others.pids) + 1} ranks; the further ones are processes {others.pids}"
        context.emit(Event("log", message, context.stage, arm, payload={"level": "info"}))
        part.join(0)
        stage(context.stage)(leading(context))


class FurtherRanks:
    """Ranks 1 and up, for the length of a `with`."""

    def __init__(self, part: Part, report: Callable[[str], None]) -> None:
        self._report = report
        self._part = part
        # A trainer that was killed leaves them behind.
        self._remove_files()
        count = part.profile.hardware.trainer_processes - 1
        started = start_processes(follow, (part,), nprocs=count, join=False)  # type: ignore[no-untyped-call]
        self._processes: list[SpawnProcess] = started.processes
        self._parted = threading.Event()
        self._watch = threading.Thread(target=self._end_with_them, name="ranks", daemon=True)

    @property
    def pids(self) -> list[int | None]:
        """The processes, in order of rank."""
        return [process.pid for process in self._processes]

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for their end where the stage has ended for all alike; ends them where it broke down here."""
        if kind is None or issubclass(kind, (StopRequested, StageFailed)):
            ranks.leave()
            self._parted.set()
            self._watch.join(PARTING_SECONDS)
        else:
            # A rank that died ends what the others wait for, so that the error here may be no more than its echo.
            self._watch.join(ECHO_SECONDS)
        self._parted.set()
        for process in self._processes:
            process.kill()
        self._watch.join()
        self._remove_files()

    def _remove_files(self) -> None:
        part = self._part
        for rank in range(1, part.profile.hardware.trainer_processes):
            part.error_file(rank).unlink(missing_ok=True)
        part.meeting.unlink(missing_ok=True)

    def _end_with_them(self) -> None:
        """Ends this process at once when one of them dies: everybody would wait for it for ever."""
        living: dict[Any, int] = {process.sentinel: rank for rank, process in enumerate(self._processes, 1)}
        while living:
            for sentinel in wait(list(living)):
                rank = living.pop(sentinel)
                process = self._processes[rank - 1]
                process.join()
                if process.exitcode != 0 and not self._parted.is_set():
                    reason = f"rank {rank} (process {process.pid}) ended with status {process.exitcode}"
                    print(f"{reason}: the trainer ends too", file=sys.stderr, flush=True)
                    self._report(f"rank {rank}: {self._error_of(rank) or f'status {process.exitcode}'}")
                    os._exit(1)

    def _error_of(self, rank: int) -> str:
        """Return the error that ended a further rank, in one line; empty if it was none of Python's."""
        path = self._part.error_file(rank)
        return last_error(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else ""


def follow(place: int, part: Part) -> None:
    """The life of a further rank, number `place` (from 0) of those that the launcher has started."""
    faulthandler.enable()
    end_with_parent()
    with ExitStack() as on_exit:
        on_exit.push(partial(write_error, part.error_file(place + 1)))
        part.join(place + 1)
        with suppress(StopRequested, StageFailed):  # rank 0 has met the same, and says so
            stage(part.stage)(part.context())
        ranks.leave()


def write_error(
    path: Path, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> None:
    """Write the error that ends a `with` to the log, and to `path` for rank 0.

    PyTorch's launcher keeps it too, but as a pickle.
    """
    if error is not None:
        text = "".join(traceback.format_exception(error))
        print(text, file=sys.stderr, flush=True)
        write_text(path, text, errors="replace")


def end_with_parent() -> None:
    """Ends this process at once when the one that started it is gone, also while it waits for other ranks."""
    parent = parent_process()
    assert parent is not None, "a further rank is started by another process"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
