"""The trainer's connection to the worker: sends jobs, receives results.

The supervisor replaces the channels when the worker is restarted.

Each unfinished job is then sent again in full. Unread results of the old worker, and results of unknown jobs,
are dropped and counted. So a result is never attributed to the wrong job. Completions that were read before
the crash arrive again under the same (prompt, sample); the reader keeps the newer one.
"""

from __future__ import annotations

import queue
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from engine.context import Generation, StopRequested
from engine.ipc.channels import ChannelClosed, Receiver, Sender
from engine.protocol.messages import Completion, SuiteProgress, Work, WorkerRequest, WorkerResult

# Number of the connection that delivered it, and the result. None only wakes up a waiting `poll`.
_Arrival = tuple[int, WorkerResult | None]


class WorkerClient:
    """Implements engine.context.Generation by a worker process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, Work] = {}
        self._jobs: Sender[WorkerRequest] | None = None
        self._connection_number = 0
        self._arrivals: queue.SimpleQueue[_Arrival] = queue.SimpleQueue()
        self._ended = threading.Event()
        # True after one `poll` has returned because of `end`.
        self._end_reported = False
        # Ids start from the clock, so that a restarted trainer never reuses an id.
        self._last_id = time.time_ns() // 1000
        self.dropped = 0

    def next_job_id(self) -> int:
        """Return a job id that no other job of this run has."""
        self._last_id += 1
        return self._last_id

    def submit(self, job: Work) -> None:
        """Register `job` and send it, now or when a worker is connected."""
        with self._lock:
            self._open[job.job_id] = job
            if self._jobs is not None:
                _send(self._jobs, job)

    def poll(self, timeout: float) -> list[WorkerResult]:
        """Wait at most `timeout` seconds for results.

        Return those that have arrived.
        Raises: StopRequested on a second wait after `end`.
        """
        deadline = time.monotonic() + timeout
        found: list[WorkerResult] = []
        while not found:
            if self._ended.is_set() and self._arrivals.empty():
                return self._poll_after_end(timeout)
            try:
                arrival = self._arrivals.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return found
            self._accept(arrival, found)
        while not self._arrivals.empty():
            self._accept(self._arrivals.get(), found)
        return found

    def connect(self, results: Connection[Any, Any], jobs: Connection[Any, Any]) -> None:
        """Switch to a new worker and send it every unfinished job.

        The jobs are sent in order of job id.
        """
        with self._lock:
            if self._jobs is not None:
                self._jobs.close()
            self._connection_number += 1
            self._jobs = Sender(jobs)
            for _, job in sorted(self._open.items()):
                _send(self._jobs, job)
            receiver: Receiver[WorkerResult] = Receiver(results)
            threading.Thread(
                target=self._read, args=(self._connection_number, receiver), name="results", daemon=True
            ).start()

    def end(self) -> None:
        """Declare that no worker will answer again.

        The first waiting `poll` returns an empty list, so that the stage can save at its next boundary.
        Another `poll` with a timeout raises StopRequested.
        """
        self._ended.set()
        self._arrivals.put((0, None))

    def _poll_after_end(self, timeout: float) -> list[WorkerResult]:
        if timeout > 0.0:
            if self._end_reported:
                raise StopRequested
            self._end_reported = True
        return []

    def _read(self, number: int, receiver: Receiver[WorkerResult]) -> None:
        try:
            while True:
                self._arrivals.put((number, receiver.get()))
        except ChannelClosed:
            receiver.close()

    def _accept(self, arrival: _Arrival, found: list[WorkerResult]) -> None:
        number, result = arrival
        if result is None:
            return
        with self._lock:
            job = self._open.get(result.job_id)
            if number != self._connection_number or job is None or job.kind != result.kind:
                self.dropped += 1
                return
            if not isinstance(result, (Completion, SuiteProgress)):
                del self._open[result.job_id]
        found.append(result)


def _send(jobs: Sender[WorkerRequest], job: Work) -> None:
    try:
        jobs.put(job)
    except ChannelClosed:
        # The worker has exited. The job stays registered and is sent to the next one.
        return


# mypy checks here that the class has every method of the protocol, with the same types.
_generation: type[Generation] = WorkerClient
