"""The run's engine processes together: started, linked to each other, started again, ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.arms import all_trained
from engine.generators.placement import placements
from engine.gpus import GpuClaim
from engine.plan import Step, needs_worker
from engine.processes.orders import FromChild, Verb
from engine.supervisor.processes import Child, Role, connect, start_trainer, start_worker
from engine.supervisor.restarts import Restarts
from profiles import Profile
from store.home import RunFolder

WORKER_GRACE_SECONDS = 10.0  # to end in order; then it is killed, and nothing is lost by that


@dataclass(frozen=True, slots=True)
class Entries:
    """Main functions of the engine processes, as "module:function" so that the supervisor loads none of them."""

    trainer: str = "engine.trainer:main"
    worker: str = "engine.worker:main"


class Crew:
    """A trainer, and a worker where the plan needs one."""

    def __init__(self, entries: Entries, folder: RunFolder, profile: Profile, plan: Sequence[Step]) -> None:
        self._entries = entries
        self._folder = folder
        self._hardware = profile.hardware
        self._plan = plan
        self._has_worker = needs_worker(profile, plan)
        self._wants_worker = self._has_worker  # False once the trainer waits for no more answers
        self._trainer_idle = False  # when the worker was started
        self._claim = GpuClaim([])
        self._due: dict[Role, float] = {}  # when each absent process is to be started, on the monotonic clock
        self.children: dict[Role, Child] = {}
        self.restarts: dict[Role, Restarts] = {
            "trainer": Restarts(profile.hardware.trainer_restarts),
            "worker": Restarts(profile.hardware.worker_restarts),
        }

    def board(self, claim: GpuClaim) -> None:
        """Everybody is to be started, on the GPUs of `claim`."""
        self._claim = claim
        self._due = {"trainer": 0.0, "worker": 0.0} if self._has_worker else {"trainer": 0.0}

    def start_due(self) -> list[Child]:
        """Starts whoever is due and links the two anew. Returns those started."""
        roles = [role for role, due in self._due.items() if due <= time.monotonic()]
        started = [self._start(role) for role in roles]
        if started and {"trainer", "worker"} <= self.children.keys():
            connect(self.children["trainer"], self.children["worker"])
        return started

    def next_start(self) -> float | None:
        """Seconds until somebody is due; None where nobody is."""
        return max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None

    def start_again(self, role: Role, fault: str) -> float | None:
        """Plan the next start of a process that died of `fault` (empty: it was killed).

        Returns: seconds until then; None if it has died too often, or twice of the same error.
        """
        delay = self.restarts[role].after_death(fault)
        if delay is not None:
            self._due[role] = time.monotonic() + delay
        if role == "trainer":
            self._want_worker()
        return delay

    def renew_worker(self) -> bool:
        """The trainer is idle from now on: a worker that could use its GPUs and was started without them ends, to be
        started again by `replace`. Whether that is so."""
        worker = self.children.get("worker")
        if worker is None or worker.leaves_by is not None or self._trainer_idle:
            return False
        if placements(self._hardware, True) == placements(self._hardware, False):
            return False
        worker.dismiss(WORKER_GRACE_SECONDS)
        return True

    def end_worker(self) -> None:
        """This trainer waits for no more answers: the worker ends now, and none is started for this trainer."""
        self._wants_worker = False
        self._due.pop("worker", None)
        worker = self.children.get("worker")
        if worker is not None and worker.leaves_by is None:
            worker.dismiss(WORKER_GRACE_SECONDS)

    def is_done_with(self, child: Child) -> bool:
        """Whether the end of `child` is no death: it was told to end, or is wanted no more."""
        return child.leaves_by is not None or (child.role == "worker" and not self._wants_worker)

    def replace(self, child: Child) -> None:
        """Plans the start of another in place of one that was done with, where there is to be one."""
        if child.role == "worker" and self._wants_worker:
            self._due["worker"] = 0.0

    def hasten(self) -> None:
        """Ends those that were told to end and have not, in time."""
        for child in self.children.values():
            if child.leaves_by is not None and time.monotonic() >= child.leaves_by:
                child.kill()

    def progressed(self) -> None:
        """The run recorded something new: whoever dies from now on starts a new row of deaths."""
        for restarts in self.restarts.values():
            restarts.progressed()

    def watched(self, *, reading: bool) -> list[Any]:
        """What becomes ready when somebody says something (if `reading`) or ends."""
        ends: list[Any] = [child.process.sentinel for child in self.children.values()]
        if reading:
            ends += [child.connection for child in self.children.values() if child.is_open]
        return ends

    def messages(self, ready: Sequence[object]) -> Iterator[tuple[Child, FromChild]]:
        """One message of everybody whose connection is ready."""
        for child in list(self.children.values()):
            if child.connection in ready:
                yield child, child.receive()

    def ended(self) -> list[Child]:
        """Those whose process is over; `bury` each."""
        return [child for child in self.children.values() if child.has_ended()]

    def bury(self, child: Child) -> Iterator[FromChild]:
        """The last messages of a process that is over; then it is gone, with all that it had started."""
        child.kill()
        while child.is_open and child.connection.poll():
            yield child.receive()
        del self.children[child.role]

    def order(self, verb: Verb, *roles: Role) -> None:
        """Sends a command to those of `roles` that live."""
        for role in roles:
            if role in self.children:
                self.children[role].order(verb)

    def dismiss(self) -> None:
        """Nobody is started any more."""
        self._due = {}

    def kill(self) -> None:
        """Ends everybody at once."""
        self.dismiss()
        for child in self.children.values():
            child.kill()

    def abandon(self) -> None:
        """Whoever still lives sees its supervisor gone, and ends as it does when that dies."""
        for child in self.children.values():
            child.connection.close()

    def release(self) -> None:
        """Gives the GPUs back."""
        self._claim.release()

    def _want_worker(self) -> None:
        """There is to be a worker again, after a trainer that waited for no more answers."""
        self._wants_worker = self._has_worker
        if self._has_worker and "worker" not in self.children:
            self._due.setdefault("worker", 0.0)

    def _start(self, role: Role) -> Child:
        del self._due[role]
        if role == "trainer":
            threads = self._hardware.trainer_threads
            child = start_trainer(self._entries.trainer, self._folder, self._has_worker, self._claim, threads)
        else:
            threads = self._hardware.worker_threads
            self._trainer_idle = all_trained(self._folder, self._plan)
            child = start_worker(self._entries.worker, self._folder, self._trainer_idle, self._claim, threads)
        self.children[role] = child
        return child
