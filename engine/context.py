"""The interface of a stage to its run.

It covers inputs, records, commands and generation.
A stage is a function `run(context) -> None`. It reports through `emit`, calls `control.boundary()` between
steps, and gets completions through `generation`. It never opens the store and never sends messages to the
supervisor itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from engine.protocol.messages import Work, WorkerResult
from profiles.schema import Arm, Profile
from store.home import RunFolder
from store.records import Record


class StopRequested(Exception):
    """Raised at a boundary if the run must stop.

    The stage has saved what it needs to continue later.
    """


class StageFailed(Exception):
    """The stage cannot continue.

    The message is one line that gives the fault and the remedy.
    """


class ArmReopened(StageFailed):
    """The newest checkpoint of a finished arm is damaged or missing.

    A stage needs the arm. Its mark `finished` has been removed.

    The run trains the lost steps of `arm` again, then repeats this stage.
    """

    def __init__(self, message: str, arm: str) -> None:
        super().__init__(message)
        self.arm = arm


class StageIncomplete(Exception):
    """The stage was completed, but parts of it failed.

    The message is one line: the parts and the reason.
    The run continues its plan and ends as `done_with_failures`. A resume repeats the failed parts.
    """


def fault_of(error: BaseException) -> str:
    """Return type and first line of `error`.

    Also the second line if the first ends in a colon.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    return f"{type(error).__name__}: {text or 'no message'}"


class Control(Protocol):
    """Commands to the run, which take effect at step boundaries."""

    def boundary(self, save: Callable[[], None] | None = None) -> None:
        """Execute pending commands. Call it between steps.

        It waits while paused, calls `save` on `checkpoint`, and on `stop` calls `save` and then raises.
        `save` must not wait for the worker, which may exit at once on `stop`.

        Raises: StopRequested if the run must stop.
        """

    def save_soon(self) -> None:
        """Request a checkpoint at the next boundary that can save.

        It has the effect of the command `checkpoint`.
        """

    def flush_records(self) -> None:
        """Wait until all records emitted so far are in the journal.

        Call it before a checkpoint or marker becomes visible, because a resumed run does not emit them again.
        """

    def announce_training_done(self) -> None:
        """Report that all training is done.

        The worker may then use the trainer's GPUs too.
        If the worker is restarted for that, jobs in flight are sent again to the new one.
        """


class Generation(Protocol):
    """The connection to the worker, which outlives restarts of the worker."""

    def submit(self, job: Work) -> None:
        """Queue `job`.

        Until its JobDone or JobFailed arrives, it is sent again to each new worker.
        """

    def poll(self, timeout: float) -> Iterable[WorkerResult]:
        """Return the results that have arrived.

        Wait at most `timeout` seconds for the first.
        Results of unknown jobs, and unread results of a crashed worker, are dropped and counted.
        A waiting stage calls `Control.boundary` between polls.

        Raises: StopRequested if the run ends and the stage polls again without `Control.boundary`.
        """

    def next_job_id(self) -> int:
        """Return a job id that no other job of this run has."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that a stage may use.

    Attributes:
        arm: the arm to train; None for a stage that trains none.
        emit: sends a record to the journal.
        control: executes commands between steps.
        generation: the connection to the worker; None for a run without one.
    """

    folder: RunFolder
    profile: Profile
    seed: int
    stage: str
    arm: Arm | None
    emit: Callable[[Record], None]
    control: Control
    generation: Generation | None
