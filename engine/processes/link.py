"""The trainer's way to the worker: jobs out, results in, over channels that the supervisor renews when a worker dies.

Unfinished jobs are sent again whole to the new worker. What the dead one had sent and nobody has read yet is dropped
and counted, as are results of unknown jobs: no result is ever taken for another. Completions that were read before the
death come again, under the same (prompt, sample), from the new worker; the reader keeps the newer.
"""

from __future__ import annotations

import queue
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from engine.context import StopRequested
from engine.messages import Completion, Job, Request, Result, SuiteProgress
from engine.processes.channels import ChannelClosed, Receiver, Sender

_Arrival = tuple[int, Result | None]  # number of the link it came by, and what came; None: wake up


class Link:
    """Implements engine.context.Generation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, Job] = {}
        self._jobs: Sender[Request] | None = None
        self._number = 0
        self._arrivals: queue.SimpleQueue[_Arrival] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._was_told = False  # who waited has come back after the end
        self._last_id = (
            time.time_ns() // 1000
        )  # a trainer that is started later starts above all that were used
        self.dropped = 0

    def next_job_id(self) -> int:
        """See engine.context.Generation."""
        self._last_id += 1
        return self._last_id

    def submit(self, job: Job) -> None:
        """Puts `job` on the books and sends it, now or when there is a worker."""
        with self._lock:
            self._open[job.job_id] = job
            if self._jobs is not None:
                _send(self._jobs, job)

    def poll(self, timeout: float) -> list[Result]:
        """Results that have come. Raises StopRequested where no worker will ever answer (see `end`)."""
        deadline = time.monotonic() + timeout
        found: list[Result] = []
        while not found:
            if self._ended.is_set() and self._arrivals.empty():
                return self._last_chance(timeout)
            try:
                arrival = self._arrivals.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return found
            self._accept(arrival, found)
        while not self._arrivals.empty():
            self._accept(self._arrivals.get(), found)
        return found

    def connect(self, results: Connection[Any, Any], jobs: Connection[Any, Any]) -> None:
        """Goes over to a new worker: sends it every unfinished job, in order of their ids."""
        with self._lock:
            if self._jobs is not None:
                self._jobs.close()
            self._number += 1
            self._jobs = Sender(jobs)
            for _, job in sorted(self._open.items()):
                _send(self._jobs, job)
            receiver: Receiver[Result] = Receiver(results)
            threading.Thread(
                target=self._read, args=(self._number, receiver), name="results", daemon=True
            ).start()

    def end(self) -> None:
        """No worker will answer any more. Whoever waits in a poll comes back with nothing, once, to see the stop at the
        next boundary, where he can save; who polls again in spite of it gets StopRequested."""
        self._ended.set()
        self._arrivals.put((0, None))

    def _last_chance(self, timeout: float) -> list[Result]:
        if timeout > 0.0:
            if self._was_told:
                raise StopRequested
            self._was_told = True
        return []

    def _read(self, number: int, receiver: Receiver[Result]) -> None:
        try:
            while True:
                self._arrivals.put((number, receiver.get()))
        except ChannelClosed:
            receiver.close()

    def _accept(self, arrival: _Arrival, found: list[Result]) -> None:
        number, result = arrival
        if result is None:
            return
        with self._lock:
            job = self._open.get(result.job_id)
            if number != self._number or job is None or job.kind != result.kind:
                self.dropped += 1
                return
            if not isinstance(result, (Completion, SuiteProgress)):
                del self._open[result.job_id]
        found.append(result)


def _send(jobs: Sender[Request], job: Job) -> None:
    try:
        jobs.put(job)
    except ChannelClosed:
        return  # the worker has died; the job stays on the books for the next one
