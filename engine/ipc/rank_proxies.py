"""Run one stage on several ranks; only rank 0 communicates.

    supervisor, worker, journal ◀─▶ rank 0 ── broadcast: save, stop, go, results ─▶ ranks 1, 2, …

Every rank runs the same stage code on the same inputs, so all take the same steps. Only rank 0 sends a job,
but every rank registers it and receives its results. A stop on rank 0 stops all ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.context import Context, Control, Generation, StopRequested
from engine.machine.ranks import broadcast
from engine.protocol.messages import Work, WorkerResult
from store.records import Record

# Results broadcast by rank 0. None means that no worker will answer again.
BroadcastResults = list[WorkerResult] | None


def with_leading_proxies(context: Context) -> Context:
    """Return `context` for rank 0, with broadcasting proxies.

    Control and generation broadcast what they receive.
    """
    generation = LeadingGeneration(context.generation) if context.generation is not None else None
    return replace(context, control=LeadingControl(context.control), generation=generation)


def discard(record: Record) -> None:
    """Discard a record of a follower rank, because rank 0 emits the same one."""


class LeadingControl:
    """The control of rank 0: broadcasts each decision of the control `own`.

    A decision is to save, to stop or to continue.
    """

    def __init__(self, own: Control) -> None:
        self._own = own

    def boundary(self, save: Callable[[], None] | None = None) -> None:
        """Execute pending commands, and broadcast each decision.

        See `Control.boundary`. Followers save and stop together with rank 0.
        """
        saving = False

        def save_everywhere() -> None:
            nonlocal saving
            broadcast("save")
            saving = True
            if save is not None:
                save()
            saving = False

        try:
            self._own.boundary(save_everywhere if save is not None else None)
        except StopRequested:
            # A stop inside `save` is raised on every rank, because each runs the same `save`.
            if not saving:
                broadcast("stop")
            raise
        broadcast("go")

    def save_soon(self) -> None:
        """Request a checkpoint at the next boundary; see `Control.save_soon`."""
        self._own.save_soon()

    def flush_records(self) -> None:
        """Wait until rank 0's records are in the journal; followers do not wait."""
        self._own.flush_records()

    def announce_training_done(self) -> None:
        """Report to the supervisor that all training is done."""
        self._own.announce_training_done()


class FollowingControl:
    """The control of a follower rank: repeats the decisions of rank 0."""

    def boundary(self, save: Callable[[], None] | None = None) -> None:
        """Receive rank 0's decisions, and save or stop as it does.

        Raises: StopRequested if rank 0 stops.
        """
        while (word := broadcast("")) == "save":
            if save is not None:
                save()
        if word == "stop":
            raise StopRequested

    def save_soon(self) -> None:
        """Do nothing: rank 0 decides when to save."""

    def flush_records(self) -> None:
        """Do nothing: only rank 0 emits records."""

    def announce_training_done(self) -> None:
        """Do nothing: rank 0 reports the end of training."""


class LeadingGeneration:
    """The worker connection of rank 0: broadcasts every result."""

    def __init__(self, own: Generation) -> None:
        self._own = own

    def submit(self, job: Work) -> None:
        """Send `job` to the worker; the other ranks only register it."""
        self._own.submit(job)

    def next_job_id(self) -> int:
        """Return a new job id, the same on every rank."""
        return broadcast(self._own.next_job_id())

    def poll(self, timeout: float) -> list[WorkerResult]:
        """Receive results, waiting at most `timeout` seconds, and broadcast them.

        Raises: StopRequested, on every rank, if the run ends; see `Generation.poll`.
        """
        end: BroadcastResults = None
        try:
            results = list(self._own.poll(timeout))
        except StopRequested:
            broadcast(end)
            raise
        return broadcast(results)


class FollowingGeneration:
    """The worker connection of a follower rank.

    It receives the results that rank 0 broadcasts.
    """

    def submit(self, job: Work) -> None:
        """Do nothing: rank 0 sends the job."""

    def next_job_id(self) -> int:
        """Return rank 0's new job id."""
        return broadcast(0)

    def poll(self, timeout: float) -> list[WorkerResult]:
        """Return the results that rank 0 broadcasts.

        Rank 0 waits for them, so `timeout` has no effect here.
        Raises: StopRequested if rank 0 raised it.
        """
        received: BroadcastResults = None
        received = broadcast(received)
        if received is None:
            raise StopRequested
        return received


# mypy checks here that the class has every method of the protocol, with the same types.
_leading_control: type[Control] = LeadingControl
_following_control: type[Control] = FollowingControl
_leading_generation: type[Generation] = LeadingGeneration
_following_generation: type[Generation] = FollowingGeneration
