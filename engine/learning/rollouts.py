"""Rollouts on a schedule: step t trains on completions of weight version max(0, t − staleness), never by a race.

While step t trains, the worker already generates for the steps after it. Prompts, seeds and versions follow from the
step alone, so a resumed run asks for the same rollouts. Batches that have come travel in a checkpoint (`held`); for
those that have not, their weights do where they are older than its own (`owed`), and they are asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.collector import Answer, Collector
from engine.data.order import batch_rows
from engine.messages import Completion, Job, JobDone, Prompt, Sampling, WeightRef, derived_seed
from profiles.schema import Grpo


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """What one step trains on: `completions` of the kept groups in order of (group, sample)."""

    step: int
    version: int
    prompts: tuple[Prompt, ...]  # (groups,)
    completions: tuple[Completion, ...]  # (groups × group_size,)
    done: JobDone

    def rewards(self, settings: Grpo) -> NDArray[np.float64]:
        """Rewards `(groups, group_size)`."""
        flat = [reward(completion, settings) for completion in self.completions]
        return np.array(flat).reshape(len(self.prompts), settings.group_size)


def reward(completion: Completion, settings: Grpo) -> float:
    """1 for a correct answer; `format_reward` for a readable wrong one; less a soft punishment near the limit.

    The punishment grows linearly to 1 over the last `overlong_buffer` tokens (DAPO, arXiv 2503.14476, eq. 13).
    """
    base = {"correct": 1.0, "wrong": settings.format_reward}.get(completion.outcome, 0.0)
    if settings.overlong_buffer:
        over = len(completion.token_ids) - (settings.max_new_tokens - settings.overlong_buffer)
        base -= min(max(over / settings.overlong_buffer, 0.0), 1.0)
    return base


class RolloutSchedule:
    """Asks for each step's rollouts once its weights exist, and hands them over when their step comes."""

    def __init__(
        self,
        collector: Collector,
        prompts: list[Prompt],
        settings: Grpo,
        seed: int,
        arm: str,
        release: Callable[[WeightRef], None],
        held: dict[int, RolloutBatch],
        first: int = 0,
    ) -> None:
        """`first` is the step that training goes on from, with the batches `held`."""
        self._collector = collector
        self._prompts = prompts
        self._settings = settings
        self._seed = seed
        self._arm = arm
        self._release = release
        self._ready = dict(held)
        self._first = first
        self._asked: dict[int, Job] = {}

    def published(self, weights: WeightRef, hold: Callable[[WeightRef], None]) -> None:
        """Asks for every step that trains on `weights` and is not there yet; `hold` is called once for each job."""
        for step in steps_on_version(weights.version, self._settings):
            if step < self._first or step in self._ready or step in self._asked:
                continue
            job = self._job(step, weights)
            hold(weights)
            self._asked[step] = job
            self._collector.submit(job)

    def arrived(self, step: int) -> bool:
        """Whether the rollouts of `step` are there; waits a moment for them where they are not."""
        if step in self._ready:
            return True
        job_id = self._asked[step].job_id
        if not self._collector.ready(job_id):
            self._collector.wait()
        return self._collector.ready(job_id)

    def take(self, step: int) -> RolloutBatch:
        """Waits for the rollouts of `step`. They stay held until `trained`."""
        if step not in self._ready:
            job = self._asked.pop(step)
            answer = self._collector.take(job.job_id)
            self._release(job.weights)
            self._ready[step] = batch_of(job, answer)
        return self._ready[step]

    def trained(self, step: int) -> None:
        """`step` has been trained on; its rollouts are let go."""
        del self._ready[step]

    def held(self, version: int) -> dict[int, RolloutBatch]:
        """Batches that have come, to travel in a checkpoint at weight `version`; waits for none."""
        for step, job in sorted(self._asked.items()):
            if job.weights.version < version and self._collector.ready(job.job_id):
                self.take(step)
        return dict(self._ready)

    def owed(self, version: int) -> list[WeightRef]:
        """Weights older than `version` under which rollouts were asked for that have not come, once for each."""
        older = [job.weights for job in self._asked.values() if job.weights.version < version]
        return list(dict.fromkeys(older))

    def _job(self, step: int, weights: WeightRef) -> Job:
        settings = self._settings
        wanted, spares = settings.prompts_per_step, settings.refill_groups
        rows = batch_rows(len(self._prompts), step, wanted, "rollout", self._seed, self._arm)
        if spares:
            rows += batch_rows(len(self._prompts), step, spares, "spare", self._seed, self._arm)
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
        job_id = self._collector.next_job_id()
        return Job(job_id, "rollout", step, weights, prompts, settings.group_size, sampling, seed, wanted)


def version_for(step: int, settings: Grpo) -> int:
    """The weight version that `step` trains on: one version a step, `staleness` behind."""
    return max(0, step - settings.staleness)


def steps_on_version(version: int, settings: Grpo) -> range:
    """The steps whose rollouts come from weight `version`."""
    first = 0 if version == 0 else version + settings.staleness
    return range(first, min(version + settings.staleness + 1, settings.steps))


def batch_of(job: Job, answer: Answer) -> RolloutBatch:
    """The worker's whole answer as a batch of its kept groups."""
    assert answer.done is not None
    by_index = {prompt.index: prompt for prompt in job.prompts}
    kept = {index: place for place, index in enumerate(answer.done.kept)}
    completions = [completion for completion in answer.completions if completion.prompt in kept]
    completions.sort(key=lambda completion: (kept[completion.prompt], completion.sample))
    prompts = tuple(by_index[index] for index in answer.done.kept)
    return RolloutBatch(job.step, job.weights.version, prompts, tuple(completions), answer.done)
