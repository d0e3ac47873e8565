"""The event loop of a run's supervisor.

    children's messages ─┐
    children's exits ────┤                    ┌─▶ journal (records, states, commands)
    control requests ────┼─▶ wait ─▶ _turn ───┼─▶ orders to children, starts, kills
    SIGTERM, timers ─────┘                    └─▶ replies to clients

    states: queued → running ⇄ paused → stopping → done | done_with_failures | interrupted | failed

The loop has one thread and one wait. Every change becomes an event in the journal before it is shown
anywhere.
"""

from __future__ import annotations

import faulthandler
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Literal

from engine.ipc.orders import (
    REOPENED,
    Fault,
    Flush,
    FromChild,
    Leaving,
    MainReturned,
    Notice,
    Paused,
    Trained,
)
from engine.ipc.pidfile import AlreadyHeld, hold, lock_path
from engine.machine.gpus import LOCKS, Gpu, GpuQueue
from engine.protocol.control import ControlServer, Reply, Request, sender
from engine.supervisor.child_process import ChildProcess
from engine.supervisor.engine_processes import WORKER_GRACE_SECONDS, EngineProcesses
from engine.supervisor.entry_points import EntryPoints
from engine.supervisor.final_state import TERMINATED, damaged_each_time, final_state
from engine.supervisor.guard import Guard
from engine.supervisor.ingestion import Ingestion
from engine.supervisor.leftovers import Leftovers, recover_spools
from engine.supervisor.log_rotation import LogRotation
from engine.supervisor.record_queue import RecordQueue
from engine.supervisor.run_events import RunEvents
from engine.supervisor.signals import catch_signals, signalled
from engine.supervisor.takeover import take_over
from engine.supervisor.telemetry import SECONDS as TELEMETRY_SECONDS
from engine.supervisor.telemetry import Telemetry
from engine.weight_sync.slots import remove_slots
from store.events import StageChange, details_of
from store.home import RunFolder, removing
from store.records import Event, Record, RunState
from store.run_config import RunConfig, read_config
from store.run_progress import RunProgress, folded

# Longest wait, and so the interval of checks that no event triggers: leftovers, GPU queue, deadlines.
TICK_SECONDS = 0.5
# Time for a checkpoint if the run must end without its worker.
TRAINER_GRACE_SECONDS = 120.0
# After SIGTERM: a reclaimed machine kills all processes about 5 s after it.
TERMINATION_SECONDS = 3.0
# A full disk may delay the end of a run by this time.
LAST_WRITES_SECONDS = 30.0
# The kernel may not end a process that waits for a device, even after SIGKILL.
UNKILLABLE_SECONDS = 60.0
# More than all waits after the last turn together. Later the process writes its stacks to its log and exits.
END_SECONDS = 120.0

SupervisorPhase = Literal["admission", "work", "ending", "over"]


class Supervisor:
    """Supervises a run from its start to its end."""

    def __init__(
        self,
        folder: RunFolder,
        gpus: Sequence[Gpu],
        entries: EntryPoints | None = None,
        locks: Path = LOCKS,
        config: RunConfig | None = None,
    ) -> None:
        """Lock the run and open its journal.

        `config` is its configuration, if the caller has read it.

        Raises: pidfile.AlreadyHeld or store.journal.JournalBusy if another process holds the lock or the journal.
        """
        self._lock = hold(lock_path(folder))
        # Check under the lock, because a removal takes it before it starts.
        if folder.run_id in removing(folder.home):
            raise AlreadyHeld(f"{folder.path}: the run is being removed")
        self._folder = folder
        config = config or read_config(folder.config)
        taken = take_over(folder, config.plan)
        self._journal, summary = taken.journal, taken.summary
        self._recorder = RecordQueue(self._journal, summary.seen)
        self._events = RunEvents(self._recorder)
        self._events.start(config, summary, taken.events)
        self._gpus = gpus
        profile = config.valid_profile
        self._queue = GpuQueue([gpu.uuid for gpu in gpus], locks, profile.hardware.share_gpus)
        self._processes = EngineProcesses(entries or EntryPoints(), folder, profile, config.plan)
        self._telemetry = Telemetry(gpus, config.created)
        self._guard = Guard(folder, profile, self._recorder)
        self._leftovers = Leftovers(folder)
        self._server = ControlServer(folder)
        self._ingestion = Ingestion(folder.home)
        self._log_rotation = LogRotation(folder.logs)
        self._signals = catch_signals()
        self._phase: SupervisorPhase = "admission"
        self._pause_requested = False
        self._stopped_by = ""
        self._terminated = False
        self._killed = False
        # The stages of this start; those of earlier starts may have failed, too.
        self._progress = RunProgress()
        self._reopened = ""  # the arm that the trainer needs again: its last checkpoint was damaged
        self._end: tuple[RunState, str] = ("done", "")
        self._deadline = 0.0
        self._killed_at = 0.0  # monotonic time of the first SIGKILL at the end; 0: none yet
        self._next_telemetry = 0.0

    def run(self) -> RunState:
        """Run until all processes have exited; return the run's final state."""
        try:
            while self._phase != "over":
                self._turn()
        finally:
            faulthandler.dump_traceback_later(END_SECONDS, exit=True)
            self._processes.close_connections()
            self._ingestion.end()
            self._log_rotation.end()
        # Record the final state only after all processes have exited.
        self._events.set_state(*self._end)
        self._events.process("supervisor", os.getpid(), "")
        self._recorder.drain(LAST_WRITES_SECONDS)
        remove_slots(self._folder.run_id)
        self._queue.leave()
        self._processes.release_gpus()
        # Close the journal before `catch_up`: it can be reconciled with the store only without a writer.
        self._journal.close()
        # After SIGTERM there is no time; the next reader ingests the remaining rows.
        if not self._terminated:
            self._ingestion.catch_up(killed=self._killed)
        self._server.close()
        os.close(self._lock)
        faulthandler.cancel_dump_traceback_later()
        return self._events.state

    def _turn(self) -> None:
        # Starts and deadlines come first, so that the wait below includes the new children.
        self._act_on_phase()
        # Write before the wait: a child that waits for its acknowledgement sends nothing until then.
        self._recorder.flush()
        # A full queue means that the journal cannot be written. Unread children block on their own queues,
        # so memory stays bounded and no record is lost.
        reading = not self._recorder.is_full
        watched = [self._signals, *self._server.sockets, *self._processes.wait_objects(reading=reading)]
        waits = [TICK_SECONDS, self._recorder.wait(), self._processes.next_start()]
        ready = wait(watched, min(seconds for seconds in waits if seconds is not None))
        # A signal comes first: if all processes got it, the exits of the others are its consequence.
        if signalled(self._signals):
            self._on_signal()
        for child, messages in self._processes.messages(ready):
            self._on_messages(child, messages)
        # Messages before exits: an exit is judged by the notices that came before it.
        for child in self._processes.exited():
            self._on_exit(child)
        # Requests last, so that a reply shows the state after all of the above.
        for client, request in self._server.requests(ready):
            self._server.reply(client, self._execute(request))
        if self._gpus and time.monotonic() >= self._next_telemetry:
            self._next_telemetry = time.monotonic() + TELEMETRY_SECONDS
            readings = self._telemetry.read()
            self._recorder.take(readings)
            self._guard.take(readings)
        if self._phase == "work" and (order := self._guard.next_order(time.monotonic())):
            (self._pause if order.verb == "pause" else self._stop)(order.origin)

    def _act_on_phase(self) -> None:
        """Act on time: admission, starts, deadlines."""
        if self._phase == "admission":
            self._admit()
        self._processes.enforce_deadlines()
        if self._phase == "work":
            for child in self._processes.start_due():
                self._events.process(child.role, child.pid, "", alive=True)
                # A restarted trainer has not seen the earlier commands, so send them again.
                if child.role == "trainer" and self._stopped_by:
                    child.send_command("stop")
                elif child.role == "trainer" and self._pause_requested:
                    child.send_command("pause")
        elif self._phase == "ending":
            if not self._processes.children:
                self._phase = "over"
            elif time.monotonic() >= self._deadline:
                self._processes.kill()
                self._killed_at = self._killed_at or time.monotonic()
                if time.monotonic() >= self._killed_at + UNKILLABLE_SECONDS:
                    living = " and ".join(self._processes.children)
                    self._events.log("error", f"still alive after SIGKILL: {living}")
                    self._phase = "over"

    def _admit(self) -> None:
        """Wait for old children and for the GPUs; then schedule the processes."""
        living = self._leftovers.living()
        if living:
            return self._events.set_state(
                "queued", f"waiting for the {' and '.join(living)} of its last start to exit"
            )
        claim = self._queue.claim()
        if claim is None:
            numbers = ", ".join(str(gpu.index) for gpu in self._gpus)
            return self._events.set_state("queued", f"waiting for GPU {numbers}: another run has it")
        # Slots of an earlier trainer are useless: the new trainer publishes its own weights.
        remove_slots(self._folder.run_id)
        recover_spools(self._folder, self._recorder)
        self._processes.schedule_all(claim)
        self._phase = "work"
        return self._events.set_state("running", "")

    def _on_messages(self, child: ChildProcess, messages: FromChild) -> None:
        records: list[Record] = [message for message in messages if not isinstance(message, Notice)]
        events = [record for record in records if isinstance(record, Event)]
        self._progress = folded(events, self._progress)
        for change in map(details_of, events):
            self._reopened = change.reopened if isinstance(change, StageChange) else self._reopened
        self._guard.take(records)
        # The worker runs ahead of the trainer, so its records do not show that the run has advanced.
        if self._recorder.take(records, child) and child.role == "trainer":
            self._processes.reset_crash_counts()
        for notice in (message for message in messages if isinstance(message, Notice)):
            self._on_notice(child, notice)

    def _on_notice(self, child: ChildProcess, notice: Notice) -> None:
        if isinstance(notice, Flush):
            self._recorder.flush_soon()
        elif isinstance(notice, MainReturned):
            child.main_returned = notice
            if child.role == "trainer" and notice.status != REOPENED:
                self._processes.stop_worker()
        elif isinstance(notice, Fault):
            child.fault = notice.line
        elif isinstance(notice, Leaving):
            self._processes.stop_worker()
        elif isinstance(notice, Trained):
            if self._phase == "work" and self._processes.restart_worker_on_more_gpus():
                words = "all training is done: restarting the worker to use the trainer's GPUs too"
                self._events.log("info", words)
        # A pause notice may arrive after a stop was requested; the state `stopping` must then remain.
        elif self._phase == "work" and not self._stopped_by:
            is_paused = isinstance(notice, Paused)
            self._events.set_state(*(("paused", self._guard.pause_reason) if is_paused else ("running", "")))

    def _on_exit(self, child: ChildProcess) -> None:
        """Handle the exit of a child: end the run, or restart the child."""
        for messages in self._processes.reap(child):
            self._on_messages(child, messages)
        how = child.collect_exit()
        self._events.process(child.role, child.pid, how)
        if self._phase == "ending":
            # The long grace was for the trainer's checkpoint; the worker alone has nothing to save.
            if child.role == "trainer":
                self._deadline = min(self._deadline, time.monotonic() + WORKER_GRACE_SECONDS)
        elif (
            child.role == "trainer" and child.main_returned == MainReturned(REOPENED) and not self._stopped_by
        ):
            if not self._processes.train_again(self._reopened):
                self._begin_ending("failed", damaged_each_time(self._reopened))
        elif child.role == "trainer" and child.main_returned is not None:
            status = child.main_returned.status
            self._begin_ending(*final_state(status, self._stopped_by, self._progress.failure))
        elif child.role == "trainer" and self._stopped_by:
            self._begin_ending("interrupted", f"stopped by {self._stopped_by}; {how}")
        elif self._processes.is_expected_exit(child):
            self._processes.schedule_successor(child)
        else:
            self._restart(child, how)

    def _restart(self, child: ChildProcess, how: str) -> None:
        delay = self._processes.schedule_restart(child.role, child.fault)
        if delay is None:
            crashes = self._processes.restarts[child.role].crashes
            self._begin_ending("failed", f"{how} ({crashes} times without progress)")
        else:
            self._events.log("warning", f"{how}; restarting in {delay:.0f} s")
            self._guard.process_died(child.role, how)

    def _begin_ending(self, state: RunState, reason: str) -> None:
        """End the run with `state`: ask the children to stop, kill them later."""
        self._end = (state, reason)
        self._phase = "ending"
        grace = TRAINER_GRACE_SECONDS if "trainer" in self._processes.children else WORKER_GRACE_SECONDS
        self._deadline = time.monotonic() + grace
        self._processes.cancel_starts()
        self._processes.send_command("abort", "trainer")
        # Otherwise the trainer's notice `Leaving` ends the worker, once no further results are needed.
        if "trainer" not in self._processes.children or state == "failed":
            self._processes.send_command("stop", "worker")

    def _execute(self, request: Request) -> Reply:
        if request.command != "status":
            self._events.command(request.command, request.origin)
        handler = {
            "status": lambda _: (True, ""),
            "stop": self._stop,
            "kill": self._kill,
            "pause": self._pause,
            "resume": self._resume,
            "checkpoint": self._checkpoint,
        }[request.command]
        ok, message = handler(sender(request))
        return Reply(ok, message, self._status())

    def _stop(self, origin: str) -> tuple[bool, str]:
        if self._phase == "ending" or self._stopped_by:
            return True, "is already stopping; `kill` ends it at once"
        self._stopped_by = origin
        if "trainer" not in self._processes.children:
            self._begin_ending("interrupted", f"stopped by {origin}")
            return True, "stopping now"
        self._events.set_state("stopping", f"by {origin}")
        self._processes.send_command("stop", "trainer")
        return True, "stops after the current step, with a checkpoint"

    def _kill(self, origin: str) -> tuple[bool, str]:
        if self._phase != "ending":
            self._begin_ending("interrupted", f"killed by {origin}")
        self._deadline = 0.0
        self._killed = True
        self._leftovers.kill()
        self._processes.kill()
        return True, "killed"

    def _pause(self, origin: str) -> tuple[bool, str]:
        if self._events.state == "paused":
            return True, "is paused"
        if self._events.state not in ("queued", "running"):
            return self._refused_at_end()
        self._pause_requested = True
        self._processes.send_command("pause", "trainer")
        return True, "pauses after the current step"

    def _resume(self, origin: str) -> tuple[bool, str]:
        if self._stopped_by or self._phase == "ending":
            return self._refused_at_end()
        if not self._pause_requested:
            return False, f"the run is {self._events.state}, not paused; use `pause` first"
        self._pause_requested, self._guard.pause_reason = False, ""
        self._processes.send_command("resume", "trainer")
        # A restarted trainer that has not paused yet sends no notice of its own.
        if self._events.state == "paused":
            self._events.set_state("running", "")
        return True, "resumed"

    def _refused_at_end(self) -> tuple[bool, str]:
        remedy = f"after its end, `mathrl-tui run --resume {self._folder.run_id}` goes on with it"
        return False, f"the run is {self._events.state}; {remedy}"

    def _checkpoint(self, origin: str) -> tuple[bool, str]:
        if "trainer" not in self._processes.children:
            why = "no trainer is running; try again when it is training"
            return False, f"the run is {self._events.state}: {why}"
        self._processes.send_command("checkpoint", "trainer")
        return True, "writes a checkpoint after the current step"

    def _status(self) -> dict[str, object]:
        processes: list[dict[str, object]] = [{"role": "supervisor", "pid": os.getpid(), "alive": True}]
        processes += [
            {"role": c.role, "pid": c.pid, "alive": True} for c in self._processes.children.values()
        ]
        trouble = self._recorder.trouble or self._ingestion.problem
        state = {"state": self._events.state, "reason": self._events.reason}
        return {**state, "trouble": trouble, "processes": processes}

    def _on_signal(self) -> None:
        """Handle SIGTERM: record the end first, then end within seconds.

        A second SIGTERM kills the children.
        The state is written to the journal at once, because the machine may be stopped before the processes
        exit. A checkpoint that is being written may be finished in that time. No new one is started.
        """
        if self._terminated:
            self._kill("SIGTERM")
            return
        self._terminated = True
        self._processes.send_command("leave", "trainer")
        if self._phase != "ending":
            self._begin_ending("interrupted", TERMINATED.format(signal="SIGTERM"))
        self._processes.send_command("stop", "worker")
        self._deadline = min(self._deadline, time.monotonic() + TERMINATION_SECONDS)
        self._events.set_state(*self._end)
        self._recorder.flush(now=True)
