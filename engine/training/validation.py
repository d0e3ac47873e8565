"""Validation during training: separate jobs on the worker.

The trainer collects a result when it is complete. It never waits for one between steps or for a checkpoint.
After a resume, missing results are requested again, under the checkpoint's own weights or under older ones
stored in it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.context import Context
from engine.data import inputs
from engine.pending_jobs import JobResults, PendingJobs
from engine.protocol.messages import Completion, Job, Prompt, Sampling, WeightRef, derived_seed
from engine.training.arm_training import Training
from engine.weight_sync.publisher import Publisher
from store.records import UNANSWERED, Example, Scalar

# Behind rollouts, which the trainer waits for.
PRIORITY = 1


class Validation:
    """Requests completions of fixed questions and reports the results.

    The questions are those of the validation split.
    Each request names the weight version to use.
    """

    def __init__(
        self,
        context: Context,
        pending_jobs: PendingJobs,
        prompts: list[Prompt],
        release: Callable[[WeightRef], None],
        record_score: Callable[[int, float], None],
    ) -> None:
        self._context = context
        self._pending_jobs = pending_jobs
        self._prompts = tuple(prompts)
        self._release = release
        self._record_score = record_score
        self._jobs: dict[int, Job] = {}
        self._permanent: set[int] = set()

    def submit(self, weights: WeightRef, permanent: bool = False) -> None:
        """Request completions under `weights`, sampled greedily.

        The caller holds one reference to the weights, which is released with the result.
        Args:
            permanent: the weights need no reference, because their folder is permanent.
        """
        if permanent:
            self._permanent.add(weights.version)
        context = self._context
        sampling = Sampling(temperature=0.0, max_new_tokens=context.profile.eval.max_new_tokens)
        seed = derived_seed("validation", context.seed)
        job_id = self._pending_jobs.next_job_id()
        job = Job(
            job_id,
            "validation",
            weights.version,
            weights,
            self._prompts,
            1,
            sampling,
            seed,
            priority=PRIORITY,
        )
        self._jobs[weights.version] = job
        self._pending_jobs.submit(job)

    def collect(self) -> None:
        """Report every complete validation; return at once."""
        for version, job in list(self._jobs.items()):
            if self._pending_jobs.ready(job.job_id):
                self._finish(version)

    def finish(self, between_polls: Callable[[], None]) -> None:
        """Wait for every result and report it.

        Call the given function repeatedly until then.
        """
        self.collect()
        while self._jobs:
            between_polls()
            self._pending_jobs.wait()
            self.collect()

    def pending_versions(self) -> list[int]:
        """Return the versions that have no result yet."""
        return sorted(self._jobs)

    def weights_in_flight(self, version: int) -> list[WeightRef]:
        """Return the weights of validations without a result, for a checkpoint.

        Only weights older than `version` are returned, and only those that no permanent folder holds.
        """
        older = [job.weights for place, job in self._jobs.items() if place < version]
        return [weights for weights in older if weights.version not in self._permanent]

    def _finish(self, version: int) -> None:
        job = self._jobs.pop(version)
        answer = self._pending_jobs.take(job.job_id)
        if version not in self._permanent:
            self._release(job.weights)
        self._report(job, answer)

    def _report(self, job: Job, answer: JobResults) -> None:
        arm, step = job.weights.arm, job.step
        completions = answer.completions
        lengths = np.array([len(completion.token_ids) for completion in completions])
        rate = float(np.mean([completion.outcome == "correct" for completion in completions]))
        self._record_score(step, rate)
        emit = self._context.emit
        emit(Scalar(f"{arm}/val/pass_at_1", step, rate))
        emit(Scalar(f"{arm}/val/mean_length", step, float(lengths.mean())))
        emit(
            Scalar(f"{arm}/val/truncated", step, float(np.mean([c.finish == "length" for c in completions])))
        )
        emit(
            Scalar(
                f"{arm}/val/no_answer", step, float(np.mean([c.outcome in UNANSWERED for c in completions]))
            )
        )
        for completion in completions:
            emit(example(completion, self._prompts[completion.prompt], arm, step, "validation"))


def validation_of(
    training: Training, pending_jobs: PendingJobs | None, publisher: Publisher
) -> Validation | None:
    """Return the Validation of `training`.

    None means that its settings ask for no validation, or that no worker can generate.
    """
    context, settings = training.context, training.settings
    if pending_jobs is None or not settings.validate_every:
        return None
    prompts = inputs.prompts(context, "validation")[: settings.validation_rows]
    return Validation(context, pending_jobs, prompts, publisher.release, training.record_score)


def example(completion: Completion, prompt: Prompt, arm: str, step: int, task: str) -> Example:
    """Convert a completion to a row of the record.

    Every outcome except "correct" counts as wrong.
    """
    correct = completion.outcome == "correct"
    return Example(
        arm=arm,
        step=step,
        task=task,
        ex_id=prompt.ex_id,
        sample=completion.sample,
        correct=correct,
        score=float(correct),
        outcome=completion.outcome,
        prompt=prompt.text,
        output=completion.text,
        tokens=len(completion.token_ids),
        gold=prompt.gold,
        answer=completion.answer,
        finish=completion.finish if completion.outcome != "error" else "",
    )
