"""Processes of ranks 1 and up, which run a stage with rank 0.

The trainer process is rank 0, and the others exit with it. `torch.multiprocessing` starts them. torchrun
would start rank 0 too and restart ranks by itself. Here rank 0 holds the connections to supervisor and
worker, and the supervisor restarts processes. If any rank dies, all exit at once, and the trainer restarts
from its last checkpoint.
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

from engine.context import Context, StageFailed, StopRequested
from engine.ipc.faults import last_error
from engine.ipc.rank_proxies import FollowingControl, FollowingGeneration, discard, with_leading_proxies
from engine.machine import ranks
from engine.stages import stage
from profiles.schema import Arm, Profile
from store.events import LogLine
from store.home import RunFolder
from store.private import touch, write_text

# After an error on rank 0, wait this long to see if the death of another rank was its cause.
CAUSE_SECONDS = 2.0
# Ranks that still run the stage this long after rank 0 are killed.
LAST_RANK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RankArguments:
    """What a follower rank (rank 1 and up) needs to run a stage.

    If the stage trains an arm, it is `arm`; else None. `rendezvous` is the file through which the ranks find
    each other.
    """

    folder: RunFolder
    profile: Profile
    seed: int
    stage: str
    arm: Arm | None
    has_worker: bool
    # The rendezvous file of the process group.
    rendezvous: Path

    def error_file(self, rank: int) -> Path:
        """Return the file for the traceback that ended a follower rank."""
        return self.rendezvous.with_name(f"rank_{rank}.error")

    def join(self, rank: int) -> None:
        """Join the process group of the profile as rank `rank`."""
        hardware = self.profile.hardware
        ranks.join_group(rank, hardware.trainer_processes, hardware.trainer, self.rendezvous)

    def context(self) -> Context:
        """Return the stage's context for a follower rank."""
        generation = FollowingGeneration() if self.has_worker else None
        control = FollowingControl()
        return Context(
            self.folder, self.profile, self.seed, self.stage, self.arm, discard, control, generation
        )


def run_on_ranks(context: Context, report: Callable[[str], None] = print) -> None:
    """Run the context's stage on all ranks of its profile.

    This process is rank 0.
    Args:
        report: receives the one-line error of a follower rank, before this process exits because of it.
    """
    rendezvous = context.folder.path / "ranks.meeting"
    touch(rendezvous)
    has_worker = context.generation is not None
    part = RankArguments(
        context.folder, context.profile, context.seed, context.stage, context.arm, has_worker, rendezvous
    )
    with FollowerProcesses(part, report) as others:
        arm = context.arm.name if context.arm is not None else ""
        message = f"training on {len(others.pids) + 1} ranks; ranks 1 and up are processes {others.pids}"
        context.emit(LogLine("info").event(message, context.stage, arm))
        part.join(0)
        stage(context.stage)(with_leading_proxies(context))


class FollowerProcesses:
    """The processes of ranks 1 and up, which live as long as a `with` block."""

    def __init__(self, part: RankArguments, report: Callable[[str], None]) -> None:
        self._report = report
        self._part = part
        # Remove the files that a killed trainer left behind.
        self._remove_files()
        count = part.profile.hardware.trainer_processes - 1
        started = start_processes(run_follower, (part,), nprocs=count, join=False)  # type: ignore[no-untyped-call]
        self._processes: list[SpawnProcess] = started.processes
        self._finished = threading.Event()
        self._watch = threading.Thread(target=self._exit_with_any_rank, name="ranks", daemon=True)

    @property
    def pids(self) -> list[int | None]:
        """The process ids, in order of rank; None for a process not yet started."""
        return [process.pid for process in self._processes]

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the ranks if the stage ended on all of them.

        Kill them if it raised an error here.
        """
        if kind is None or issubclass(kind, (StopRequested, StageFailed)):
            ranks.leave_group()
            self._finished.set()
            self._watch.join(LAST_RANK_SECONDS)
        else:
            # A dead rank breaks the collectives of the others, so the error here may only be a consequence of
            # it.
            self._watch.join(CAUSE_SECONDS)
        self._finished.set()
        for process in self._processes:
            process.kill()
        self._watch.join()
        self._remove_files()

    def _remove_files(self) -> None:
        part = self._part
        for rank in range(1, part.profile.hardware.trainer_processes):
            part.error_file(rank).unlink(missing_ok=True)
        part.rendezvous.unlink(missing_ok=True)

    def _exit_with_any_rank(self) -> None:
        """Exit this process at once if a rank dies.

        All others would wait for that rank forever.
        """
        living: dict[Any, int] = {process.sentinel: rank for rank, process in enumerate(self._processes, 1)}
        while living:
            for sentinel in wait(list(living)):
                rank = living.pop(sentinel)
                process = self._processes[rank - 1]
                process.join()
                if process.exitcode != 0 and not self._finished.is_set():
                    reason = f"rank {rank} (process {process.pid}) exited with status {process.exitcode}"
                    print(f"{reason}: the trainer exits too", file=sys.stderr, flush=True)
                    self._report(f"rank {rank}: {self._error_of(rank) or f'status {process.exitcode}'}")
                    os._exit(1)

    def _error_of(self, rank: int) -> str:
        """Return the one-line error that ended a follower rank.

        The result is empty if it was not a Python exception.
        """
        path = self._part.error_file(rank)
        return last_error(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else ""


def run_follower(place: int, part: RankArguments) -> None:
    """Run a follower rank.

    `place` counts the launched processes from 0, so the rank is `place + 1`.
    """
    faulthandler.enable()
    end_with_parent()
    with ExitStack() as on_exit:
        on_exit.push(partial(write_error, part.error_file(place + 1)))
        part.join(place + 1)
        # Rank 0 raises the same exception and reports it.
        with suppress(StopRequested, StageFailed):
            stage(part.stage)(part.context())
        ranks.leave_group()


def write_error(
    path: Path, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> None:
    """Write the error that ends a `with` block to stderr and to `path`.

    Rank 0 reads `path`. PyTorch's launcher stores the error too, but as a pickle. Nothing is written if the
    block ends without an error.
    """
    if error is not None:
        text = "".join(traceback.format_exception(error))
        print(text, file=sys.stderr, flush=True)
        write_text(path, text, errors="replace")


def end_with_parent() -> None:
    """Start a thread that exits this process as soon as its parent has exited.

    It does so even while this process waits for other ranks.
    """
    parent = parent_process()
    assert parent is not None, "a follower rank must be started by another process"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
