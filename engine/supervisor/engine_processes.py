"""The run's engine processes: start, connect, restart and end them.

schedule_all ─▶ _due ── start_due ─▶ children ── exited, reap ─▶ schedule_restart or schedule_successor
                  ▲                                                            │
                  └────────────────────────────────────────────────────────────┘
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from engine.artifacts.arms import all_trained
from engine.generators.placement import placements
from engine.ipc.orders import FromChild, Verb
from engine.machine.gpus import GpuClaim
from engine.plan import Step, needs_worker
from engine.supervisor.child_process import ChildProcess, Role, connect, start_trainer, start_worker
from engine.supervisor.entry_points import EntryPoints
from engine.supervisor.restarts import Restarts
from profiles.schema import Profile
from store.home import RunFolder

# A worker that has not exited after this time is killed. Nothing is lost by that.
WORKER_GRACE_SECONDS = 10.0
# How often an arm is trained again without a new record in between. More often, the disk damages what is written.
MOST_TIMES_AGAIN = 2


class EngineProcesses:
    """Starts, connects, restarts and ends the run's engine processes.

    They are the trainer, and a worker if `plan` needs one. Nothing is started before `schedule_all`.
    """

    def __init__(
        self, entries: EntryPoints, folder: RunFolder, profile: Profile, plan: Sequence[Step]
    ) -> None:
        self._entries = entries
        self._folder = folder
        self._hardware = profile.hardware
        self._plan = plan
        self._has_worker = needs_worker(profile, plan)
        # False once the trainer needs no further results.
        self._wants_worker = self._has_worker
        # True if the current worker was started after all training was done.
        self._trainer_idle = False
        self._claim = GpuClaim([])
        # Start time of each process that does not run, in seconds of the monotonic clock.
        self._due: dict[Role, float] = {}
        self.children: dict[Role, ChildProcess] = {}
        self.restarts: dict[Role, Restarts] = {
            "trainer": Restarts(profile.hardware.trainer_restarts),
            "worker": Restarts(profile.hardware.worker_restarts),
        }
        self._again: dict[str, Restarts] = {}

    def schedule_all(self, claim: GpuClaim) -> None:
        """Schedule the start of all processes on the GPUs of `claim`."""
        self._claim = claim
        self._due = {"trainer": 0.0, "worker": 0.0} if self._has_worker else {"trainer": 0.0}

    def start_due(self) -> list[ChildProcess]:
        """Start every process that is due for a start; return the started ones.

        Trainer and worker then get new channels to each other.
        """
        roles = [role for role, due in self._startable().items() if due <= time.monotonic()]
        started = [self._start(role) for role in roles]
        # A new process on either side needs new channels, because the old ones lead to a process that has
        # exited.
        if started and {"trainer", "worker"} <= self.children.keys():
            connect(self.children["trainer"], self.children["worker"])
        return started

    def next_start(self) -> float | None:
        """Return the seconds until the next start is due.

        Return None if none is scheduled.
        """
        due = self._startable().values()
        return max(0.0, min(due) - time.monotonic()) if due else None

    def schedule_restart(self, role: Role, fault: str) -> float | None:
        """Schedule the restart of a process that crashed.

        Args:
            fault: the error that ended it, in one line; empty if it was killed.
        Returns: seconds until the restart; None if it crashed too often, or twice with the same error.
        """
        delay = self.restarts[role].count_crash(fault)
        if delay is not None:
            self._due[role] = time.monotonic() + delay
        # The crashed trainer may have ended the worker already; the new trainer needs it again.
        if role == "trainer":
            self._reschedule_worker()
        return delay

    def train_again(self, arm: str) -> bool:
        """Schedule a trainer that trains `arm` again.

        The arm's last checkpoint was damaged.

        A worker that uses the trainer's GPUs leaves them first.
        Returns: False if that was done too often without a new record of the run in between.
        """
        if self._again.setdefault(arm, Restarts(MOST_TIMES_AGAIN)).count_crash() is None:
            return False
        self._due["trainer"] = 0.0
        self._reschedule_worker()
        worker = self.children.get("worker")
        if (
            worker is not None
            and worker.stop_deadline is None
            and self._trainer_idle
            and self._has_spare_gpus()
        ):
            worker.stop_within(WORKER_GRACE_SECONDS)
        return True

    def restart_worker_on_more_gpus(self) -> bool:
        """Stop the worker if it could use the GPUs of the now idle trainer.

        `schedule_successor` restarts it.
        Returns: True if the worker was asked to stop.
        """
        worker = self.children.get("worker")
        if worker is None or worker.stop_deadline is not None or self._trainer_idle:
            return False
        if not self._has_spare_gpus():
            return False
        worker.stop_within(WORKER_GRACE_SECONDS)
        return True

    def stop_worker(self) -> None:
        """Stop the worker, and start no other one for this trainer.

        The trainer needs no further results.
        """
        self._wants_worker = False
        self._due.pop("worker", None)
        worker = self.children.get("worker")
        if worker is not None and worker.stop_deadline is None:
            worker.stop_within(WORKER_GRACE_SECONDS)

    def is_expected_exit(self, child: ChildProcess) -> bool:
        """Return True if the exit of `child` was expected.

        It was asked to stop, or is not needed.
        """
        return child.stop_deadline is not None or (child.role == "worker" and not self._wants_worker)

    def schedule_successor(self, child: ChildProcess) -> None:
        """Schedule a successor after an expected exit, if one is needed."""
        if child.role == "worker" and self._wants_worker:
            self._due["worker"] = 0.0

    def enforce_deadlines(self) -> None:
        """Kill every child that was asked to stop and has missed its deadline."""
        for child in self.children.values():
            if child.stop_deadline is not None and time.monotonic() >= child.stop_deadline:
                child.kill()

    def reset_crash_counts(self) -> None:
        """Reset the crash counts, because the run has recorded something new."""
        for restarts in self.restarts.values():
            restarts.reset()
        self._again.clear()

    def wait_objects(self, *, reading: bool) -> list[Any]:
        """Return the objects that the event loop waits for.

        They are the exits of the children and, if `reading`, the connections that bring their messages.
        """
        ends: list[Any] = [child.process.sentinel for child in self.children.values()]
        if reading:
            ends += [child.connection for child in self.children.values() if child.is_open]
        return ends

    def messages(self, ready: Sequence[object]) -> Iterator[tuple[ChildProcess, FromChild]]:
        """Yield (child, messages) for each child with a connection in `ready`."""
        for child in list(self.children.values()):
            if child.connection in ready:
                yield child, child.receive()

    def exited(self) -> list[ChildProcess]:
        """Return the children that have exited; call `reap` for each."""
        return [child for child in self.children.values() if child.has_exited()]

    def reap(self, child: ChildProcess) -> Iterator[FromChild]:
        """Kill what an exited child started, yield its messages, remove it."""
        child.kill()
        while child.is_open and child.connection.poll():
            yield child.receive()
        del self.children[child.role]

    def send_command(self, verb: Verb, *roles: Role) -> None:
        """Send a command to those of `roles` that run."""
        for role in roles:
            if role in self.children:
                self.children[role].send_command(verb)

    def cancel_starts(self) -> None:
        """Cancel all scheduled starts."""
        self._due = {}

    def kill(self) -> None:
        """Cancel all scheduled starts and kill every child."""
        self.cancel_starts()
        for child in self.children.values():
            child.kill()

    def close_connections(self) -> None:
        """Close the connections.

        A child that still runs then exits as if its supervisor had died.
        """
        for child in self.children.values():
            child.connection.close()

    def release_gpus(self) -> None:
        """Release the GPUs."""
        self._claim.release()

    def _has_spare_gpus(self) -> bool:
        """Return True if a worker uses the GPUs of an idle trainer."""
        return placements(self._hardware, True) != placements(self._hardware, False)

    def _startable(self) -> dict[Role, float]:
        """Return the scheduled starts that are possible now.

        A trainer waits while a leaving worker still uses its GPUs.
        """
        worker = self.children.get("worker")
        if worker is None or worker.stop_deadline is None or not self._trainer_idle:
            return self._due
        return {role: due for role, due in self._due.items() if role != "trainer"}

    def _reschedule_worker(self) -> None:
        """Schedule a worker again, after a trainer that needed no further results."""
        self._wants_worker = self._has_worker
        if self._has_worker and "worker" not in self.children:
            self._due.setdefault("worker", 0.0)

    def _start(self, role: Role) -> ChildProcess:
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
