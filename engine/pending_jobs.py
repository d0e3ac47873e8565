"""Collect the worker's results by job, until a stage takes them.

Stages submit jobs and later take their completions. Rollouts and validations share the worker, so the result
of one job may arrive during the wait for another. It is then stored until it is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.context import Generation, StageFailed
from engine.protocol.messages import Completion, JobDone, JobFailed, SuiteDone, SuiteProgress, Work
from store.records import Example

# Longest single wait for the worker. Between waits, the link checks that the worker still runs.
POLL_SECONDS = 1.0


@dataclass(slots=True)
class JobResults:
    """What the worker has returned for one job so far.

    Attributes:
        by_place: completions by (prompt index, sample index). If a restarted worker repeats one, the newer
            one is kept.
        done: the worker's last message for the job; None until it arrives.
        rows: rows of a suite job; None until they arrive, and for other jobs.
        progress: finished documents of a suite job and their total (0 while it is unknown).
        failed: the worker's error; empty if the job has not failed.
    """

    job: Work
    by_place: dict[tuple[int, int], Completion] = field(default_factory=dict)
    done: JobDone | None = None
    rows: tuple[Example, ...] | None = None
    progress: tuple[int, int] = (0, 0)
    failed: str = ""

    @property
    def completions(self) -> list[Completion]:
        """The completions that have arrived, in order of (prompt, sample)."""
        return [self.by_place[place] for place in sorted(self.by_place)]


class PendingJobs:
    """The submitted jobs, and the results of each that have arrived.

    Results are only received while one of its methods runs. A job stays here until `take` or `close`.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._answers: dict[int, JobResults] = {}

    def submit(self, job: Work) -> None:
        """Register `job` and send it to the worker."""
        self._answers[job.job_id] = JobResults(job)
        self._generation.submit(job)

    def next_job_id(self) -> int:
        """Return a job id that no other job of this run has."""
        return self._generation.next_job_id()

    def ready(self, job_id: int) -> bool:
        """Return True if the job is complete or has failed.

        Receive results without waiting first.
        """
        self._receive(0.0)
        return self._is_whole(job_id)

    def take(self, job_id: int) -> JobResults:
        """Wait until the job is complete, remove it and return its answer.

        Raises: StageFailed if the job failed in the worker.
        """
        while not self._is_whole(job_id):
            self._receive(POLL_SECONDS)
        answer = self.close(job_id)
        if answer.failed:
            raise StageFailed(
                f"{answer.job.kind} job of step {answer.job.step} failed in the worker: {answer.failed}"
            )
        return answer

    def close(self, job_id: int) -> JobResults:
        """Remove a job and return its answer as it is, complete or failed."""
        return self._answers.pop(job_id)

    def wait(self) -> None:
        """Wait up to POLL_SECONDS for results of any job."""
        self._receive(POLL_SECONDS)

    def arrived(self, job_id: int) -> int:
        """Return how many completions have arrived for a job not yet taken."""
        return len(self._answers[job_id].by_place)

    def progress(self, job_id: int) -> tuple[int, int]:
        """Return the done and total documents of a suite job.

        (0, 0) while they are unknown.
        """
        return self._answers[job_id].progress

    def _is_whole(self, job_id: int) -> bool:
        answer = self._answers[job_id]
        return answer.done is not None or answer.rows is not None or bool(answer.failed)

    def _receive(self, timeout: float) -> None:
        for result in self._generation.poll(timeout):
            answer = self._answers.get(result.job_id)
            if answer is None:
                continue
            if isinstance(result, Completion):
                answer.by_place[result.prompt, result.sample] = result
            elif isinstance(result, JobFailed):
                answer.failed = result.error
            elif isinstance(result, SuiteProgress):
                answer.progress = (result.done, result.total)
            elif isinstance(result, SuiteDone):
                answer.rows = result.rows
            else:
                answer.done = result
