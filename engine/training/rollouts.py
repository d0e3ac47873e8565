"""Rollouts on a schedule: each step trains on a fixed weight version.

Steps count from 1: step N is the N-th update and makes weight version N. It trains on completions of version
max(0, N − 1 − staleness), whatever the worker's speed. During step N the worker already generates for later
steps.
Prompts, seeds and versions follow from the step alone, so a resumed run requests the same rollouts. A
checkpoint stores the batches that have arrived (`batches_to_store`). The others are requested again, so it
also stores their weights if these are older than its own (`weights_in_flight`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.data.order import batch_rows
from engine.pending_jobs import JobResults, PendingJobs
from engine.protocol.messages import Completion, Job, JobDone, Prompt, Sampling, WeightRef, derived_seed
from profiles.training import Grpo


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """What one step trains on.

    Attributes:
        version: weight version that generated the completions.
        prompts: (groups,).
        completions: (groups × group_size,) of the kept groups, in order of (group, sample).
        done: the worker's last message for the job.
    """

    step: int
    version: int
    prompts: tuple[Prompt, ...]
    completions: tuple[Completion, ...]
    done: JobDone

    def rewards(self, settings: Grpo) -> NDArray[np.float64]:
        """Return the rewards `(groups, group_size)`."""
        flat = [reward(completion, settings) for completion in self.completions]
        return np.array(flat).reshape(len(self.prompts), settings.group_size)


def reward(completion: Completion, settings: Grpo) -> float:
    """Return the reward of a completion.

    A soft punishment near the length limit is subtracted.
    The reward is 1 for a correct answer and `format_reward` for a readable wrong one. The punishment grows
    linearly to 1 over the last `overlong_buffer` tokens.
    Source: DAPO, arXiv 2503.14476, equation 13.
    """
    base = {"correct": 1.0, "wrong": settings.format_reward}.get(completion.outcome, 0.0)
    if settings.overlong_buffer:
        over = len(completion.token_ids) - (settings.max_new_tokens - settings.overlong_buffer)
        base -= min(max(over / settings.overlong_buffer, 0.0), 1.0)
    return base


class RolloutSchedule:
    """Requests each step's rollouts once its weights exist, and returns them.

    A step gets exactly its own rollouts, however fast trainer and worker are. `release` is called for the
    weights of each job whose result was taken.
    """

    def __init__(
        self,
        pending_jobs: PendingJobs,
        prompts: list[Prompt],
        settings: Grpo,
        seed: int,
        arm: str,
        release: Callable[[WeightRef], None],
        held: dict[int, RolloutBatch],
        first: int = 1,
    ) -> None:
        """Prepare the schedule.

        Args:
            held: batches that have already arrived.
            first: the next step to train.
        """
        self._pending_jobs = pending_jobs
        self._prompts = prompts
        self._settings = settings
        self._seed = seed
        self._arm = arm
        self._release = release
        self._ready = dict(held)
        self._first = first
        self._jobs: dict[int, Job] = {}

    def request_rollouts(self, weights: WeightRef, hold: Callable[[WeightRef], None]) -> None:
        """Send the job of every step that trains on `weights` and is missing.

        `hold` is called once for each job, to keep the weights published until its result arrives.
        """
        for step in steps_on_version(weights.version, self._settings):
            if step < self._first or step in self._ready or step in self._jobs:
                continue
            job = self._job(step, weights)
            hold(weights)
            self._jobs[step] = job
            self._pending_jobs.submit(job)

    def arrived(self, step: int) -> bool:
        """Return True if the rollouts of `step` have arrived.

        If they have not, wait up to POLL_SECONDS for results, and check again.
        """
        if step in self._ready:
            return True
        job_id = self._jobs[step].job_id
        if not self._pending_jobs.ready(job_id):
            self._pending_jobs.wait()
        return self._pending_jobs.ready(job_id)

    def take(self, step: int) -> RolloutBatch:
        """Wait for the rollouts of `step` and return them.

        They stay in this object until `release`. The weights that generated them are released.
        """
        if step not in self._ready:
            job = self._jobs.pop(step)
            answer = self._pending_jobs.take(job.job_id)
            self._release(job.weights)
            self._ready[step] = batch_of(job, answer)
        return self._ready[step]

    def release(self, step: int) -> None:
        """Forget the rollouts of `step`, which has been trained."""
        del self._ready[step]

    def batches_to_store(self, version: int) -> dict[int, RolloutBatch]:
        """Return the arrived batches, by step, that a checkpoint must store.

        The checkpoint is that of `version`. This function does not wait for others.
        """
        for step, job in sorted(self._jobs.items()):
            if job.weights.version < version and self._pending_jobs.ready(job.job_id):
                self.take(step)
        return dict(self._ready)

    def weights_in_flight(self, version: int) -> list[WeightRef]:
        """Return the weights, each once, that jobs without a result use.

        Only weights older than `version` are returned.
        """
        older = [job.weights for job in self._jobs.values() if job.weights.version < version]
        return list(dict.fromkeys(older))

    def _job(self, step: int, weights: WeightRef) -> Job:
        settings = self._settings
        wanted, spares = settings.prompts_per_step, settings.refill_groups
        # Position in the order of the rows, which counts from 0.
        place = step - 1
        rows = batch_rows(len(self._prompts), place, wanted, "rollout", self._seed, self._arm)
        if spares:
            rows += batch_rows(len(self._prompts), place, spares, "spare", self._seed, self._arm)
        prompts = tuple(
            Prompt(
                self._prompts[row].ex_id,
                index,
                self._prompts[row].token_ids,
                self._prompts[row].gold,
                self._prompts[row].text,
            )
            for index, row in enumerate(rows)
        )
        sampling = Sampling(settings.temperature, settings.max_new_tokens, settings.top_p)
        seed = derived_seed("rollout", self._seed, self._arm)
        job_id = self._pending_jobs.next_job_id()
        return Job(job_id, "rollout", step, weights, prompts, settings.group_size, sampling, seed, wanted)


def steps_on_version(version: int, settings: Grpo) -> range:
    """Return the steps with rollouts from weight `version`."""
    last = version + 1 + settings.staleness
    first = 1 if version == 0 else last
    return range(first, min(last, settings.steps) + 1)


def batch_of(job: Job, answer: JobResults) -> RolloutBatch:
    """Return the worker's whole answer as a batch of its kept groups."""
    assert answer.done is not None
    by_index = {prompt.index: prompt for prompt in job.prompts}
    kept = {index: place for place, index in enumerate(answer.done.kept)}
    completions = [completion for completion in answer.completions if completion.prompt in kept]
    completions.sort(key=lambda completion: (kept[completion.prompt], completion.sample))
    prompts = tuple(by_index[index] for index in answer.done.kept)
    return RolloutBatch(job.step, job.weights.version, prompts, tuple(completions), answer.done)
