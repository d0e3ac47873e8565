"""Sorts what the worker sends to whoever asked for it: one book of jobs, whole answers out.

Stages submit jobs and later take their completions; rollouts and validations share the worker, so a result for one
may come while another is waited for. It is kept until it is asked for. Pure book-keeping over `Generation`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.context import Generation, StageFailed
from engine.messages import Completion, JobDone, JobFailed, SuiteDone, SuiteProgress, Work
from store.records import Example

POLL_SECONDS = 1.0  # how long one wait for the worker lasts; the link checks that everybody lives in between


@dataclass(slots=True)
class Answer:
    """A job's completions by (prompt, sample): where a restarted worker sends one again, the newer stands."""

    job: Work
    by_place: dict[tuple[int, int], Completion] = field(default_factory=dict)
    done: JobDone | None = None
    rows: tuple[Example, ...] | None = None  # of a suite job
    progress: tuple[int, int] = (
        0,
        0,
    )  # of a suite job: documents that are done, and all of them (0: not known)
    failed: str = ""

    @property
    def completions(self) -> list[Completion]:
        """What has come, in order of (prompt, sample)."""
        return [self.by_place[place] for place in sorted(self.by_place)]


class Collector:
    """Jobs that were submitted and what has come of each."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._answers: dict[int, Answer] = {}

    def submit(self, job: Work) -> None:
        """Sends `job` to the worker and opens its page in the book."""
        self._answers[job.job_id] = Answer(job)
        self._generation.submit(job)

    def next_job_id(self) -> int:
        return self._generation.next_job_id()

    def ready(self, job_id: int) -> bool:
        """True once every completion of the job has come (or it failed); looks without waiting."""
        self._receive(0.0)
        return self._is_whole(job_id)

    def take(self, job_id: int) -> Answer:
        """Waits for the whole answer, closes its page and returns it; StageFailed where the worker could not."""
        while not self._is_whole(job_id):
            self._receive(POLL_SECONDS)
        answer = self.close(job_id)
        if answer.failed:
            raise StageFailed(
                f"{answer.job.kind} job of step {answer.job.step} failed in the worker: {answer.failed}"
            )
        return answer

    def close(self, job_id: int) -> Answer:
        """The answer of a job that is ready, as it is; its page is closed."""
        return self._answers.pop(job_id)

    def wait(self) -> None:
        """Waits a moment for anything to come."""
        self._receive(POLL_SECONDS)

    def arrived(self, job_id: int) -> int:
        """How many completions have come of a job that is not taken yet."""
        return len(self._answers[job_id].by_place)

    def progress(self, job_id: int) -> tuple[int, int]:
        """Return how many documents of a suite job are done and how many it has; (0, 0) while that is not known."""
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
