"""What a stage is given: its run, profile, seed and arm, and its ways to speak, to be stopped and to generate.

A stage is a function `run(context) -> None`. It reports through `emit`, asks `control.boundary()` between steps,
and gets completions through `generation`. It never opens the store and never talks to the supervisor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from engine.messages import Result, Work
from profiles import Arm, Profile
from store.home import RunFolder
from store.records import Record


class StopRequested(Exception):
    """A person asked the run to stop; the stage has written what it needs to go on later."""


class StageFailed(Exception):
    """The stage cannot go on; the message is one line that names what is wrong and what to do."""


class StageIncomplete(Exception):
    """The stage ran to its end, but parts of it failed; the message is one line that names them and why.

    The run goes on with its plan and ends as `done_with_failures`. A resume repeats the parts that failed.
    """


def fault_of(error: BaseException) -> str:
    """Kind and first line of `error`, for a message of one line; the second line too if the first ends in a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    return f"{type(error).__name__}: {told or 'no message'}"


class Control(Protocol):
    """Commands from outside, seen at step boundaries."""

    def boundary(self, save: Callable[[], None] | None = None) -> None:
        """Call between steps: waits while paused; on `checkpoint` calls `save`; on `stop` calls it, then raises
        StopRequested. `save` must not wait for the worker, which may end at once on `stop`."""

    def save_soon(self) -> None:
        """Asks for a checkpoint at the next boundary that can save, as the command `checkpoint` does."""

    def settled(self) -> None:
        """Returns once everything emitted so far is in the journal. Call it before a checkpoint or a marker becomes
        visible: what a resumed run will not emit again must be safe by then."""

    def trained(self) -> None:
        """Tells that no step of the run trains any more, so that the worker may use the trainer's GPUs too. Jobs that
        are under way are sent again to the worker that comes of it."""


class Generation(Protocol):
    """The way to the worker: jobs in, results out, alive or restarted in between."""

    def submit(self, job: Work) -> None:
        """Queues `job`. It stays on the books until its JobDone or JobFailed, and is sent again to a new worker."""

    def poll(self, timeout: float) -> Iterable[Result]:
        """Results that have come, waiting `timeout` seconds at most for the first. Those of unknown jobs, and the
        partial ones of a worker that died, are dropped and counted. Who waits asks for orders (`Control.boundary`)
        between two polls: StopRequested comes where the run ends and he does not."""

    def next_job_id(self) -> int:
        """A job id that no job of this run has had."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a stage may touch."""

    folder: RunFolder
    profile: Profile
    seed: int
    stage: str
    arm: Arm | None
    emit: Callable[[Record], None]
    control: Control
    generation: Generation | None
