"""Rollouts on a schedule: the version each step trains on, what a checkpoint carries, nothing mixed up."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from engine.context import StageFailed
from engine.data.sequence import TokenSequence
from engine.pending_jobs import PendingJobs
from engine.protocol.messages import Completion, Job, JobDone, JobFailed, Prompt, WeightRef, WorkerResult
from engine.training.replay import Rollouts
from engine.training.rollouts import RolloutBatch, RolloutSchedule, reward, steps_on_version
from engine.training.sources import rollout_metrics, stored_batches
from profiles.training import Grpo


class ScriptedWorker:
    """A `Generation` that answers jobs in shuffled order, result by result, as a worker that is never in time."""

    def __init__(self, seed: int = 0) -> None:
        self.jobs: list[Job] = []
        self._random = random.Random(seed)
        self._results: list[WorkerResult] = []
        self._ids = iter(range(1_000_000))

    def next_job_id(self) -> int:
        return next(self._ids)

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        completions: list[WorkerResult] = [
            completion(job, prompt.index, sample)
            for prompt in job.prompts[: job.wanted]
            for sample in range(job.samples)
        ]
        self._random.shuffle(completions)
        self._results += [*completions, done(job)]

    def poll(self, timeout: float) -> Iterable[WorkerResult]:
        taken, self._results = self._results[:5], self._results[5:]
        return taken


def completion(job: Job, prompt: int, sample: int) -> Completion:
    ids = np.array([prompt, sample], dtype=np.int32)
    zeros = np.zeros(2, dtype=np.float32)
    return Completion(
        job.job_id, job.kind, job.weights.version, prompt, sample, ids, zeros, "stop", "", "wrong", ""
    )


def done(job: Job) -> JobDone:
    kept = tuple(prompt.index for prompt in job.prompts[: job.wanted])
    return JobDone(job.job_id, job.kind, job.weights.version, kept, 1, 1, 0.1, 0.0, 0.0)


PROMPTS = [Prompt(f"q{row}", row, np.array([row], dtype=np.int32), "1") for row in range(20)]


def weights(version: int) -> WeightRef:
    return WeightRef("grpo", version, "")


def schedule(
    worker: ScriptedWorker, settings: Grpo, held: dict[int, RolloutBatch] | None = None, first: int = 1
) -> RolloutSchedule:
    return RolloutSchedule(
        PendingJobs(worker), PROMPTS, settings, 7, "grpo", lambda ref: None, held or {}, first
    )


def settings(staleness: int, steps: int = 9) -> Grpo:
    return Grpo(staleness=staleness, steps=steps, prompts_per_step=4, group_size=2)


@pytest.mark.parametrize("staleness", [0, 1, 2, 5])
def test_every_step_trains_on_exactly_its_version_and_is_asked_for_once(staleness: int) -> None:
    chosen = settings(staleness)
    asked = [
        (step, version) for version in range(chosen.steps + 1) for step in steps_on_version(version, chosen)
    ]
    assert asked == [(step, max(0, step - 1 - staleness)) for step in range(1, chosen.steps + 1)]


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_the_loop_gets_its_own_rollouts_however_late_they_come(staleness: int) -> None:
    worker, chosen = ScriptedWorker(), settings(staleness)
    rollouts = schedule(worker, chosen)
    for step in range(1, chosen.steps + 1):
        rollouts.request_rollouts(WeightRef("grpo", step - 1, f"v{step - 1}"), lambda ref: None)
        batch = rollouts.take(step)
        assert (batch.step, batch.version) == (step, max(0, step - 1 - staleness))
        places = [(c.prompt, c.sample) for c in batch.completions]
        assert places == [(prompt, sample) for prompt in range(4) for sample in range(2)]
        assert {c.version for c in batch.completions} == {batch.version}
        rollouts.release(step)
    assert [job.step for job in worker.jobs] == list(range(1, chosen.steps + 1))


@pytest.mark.parametrize("has_come", [True, False])
@pytest.mark.parametrize("staleness", [0, 1, 2])
def test_a_resumed_schedule_trains_on_the_same_rollouts(staleness: int, has_come: bool) -> None:
    chosen = settings(staleness)
    straight, cut = ScriptedWorker(), ScriptedWorker(seed=1)
    rollouts = schedule(straight, chosen)
    for step in range(1, chosen.steps + 1):
        rollouts.request_rollouts(weights(step - 1), lambda ref: None)
        rollouts.take(step)
        rollouts.release(step)

    first = schedule(cut, chosen)
    for step in range(1, 6):
        first.request_rollouts(weights(step - 1), lambda ref: None)
        first.take(step)
        first.release(step)
    first.request_rollouts(weights(5), lambda ref: None)
    while has_come and not all(first.arrived(step) for step in range(6, 6 + staleness)):
        continue
    held, owed = first.batches_to_store(5), first.weights_in_flight(5)
    assert set(held) == (set(range(6, 6 + staleness)) if has_come else set())
    assert owed == ([] if has_come else [weights(version) for version in range(5 - staleness, 5)])

    again = ScriptedWorker(seed=2)
    second = schedule(again, chosen, held, first=6)
    for ref in owed:
        second.request_rollouts(ref, lambda ref: None)
    for step in range(6, chosen.steps + 1):
        second.request_rollouts(weights(step - 1), lambda ref: None)
        assert second.take(step).version == max(0, step - 1 - staleness)
        second.release(step)
    questions = {job.step: [p.ex_id for p in job.prompts] for job in straight.jobs}
    assert [job.step for job in again.jobs] == [
        step for step in range(6, chosen.steps + 1) if step not in held
    ]
    for job in again.jobs:
        assert [p.ex_id for p in job.prompts] == questions[job.step]
        assert job.weights.version == max(0, job.step - 1 - staleness)


def test_the_first_weights_are_not_asked_for_steps_that_are_behind() -> None:
    worker = ScriptedWorker()
    resumed = schedule(worker, settings(staleness=2), first=2)
    resumed.request_rollouts(weights(0), lambda ref: None)
    assert [job.step for job in worker.jobs] == [2, 3]


def test_batches_of_a_checkpoint_that_counted_from_zero_keep_their_updates() -> None:
    batch = RolloutBatch(3, 2, (), (), done(Job(0, "rollout", 3, weights(2), (), 1, None, 0)))  # type: ignore[arg-type]
    assert stored_batches({"rollouts": {3: batch}}) == {4: replace(batch, step=4)}
    assert stored_batches({"batches": {3: batch}}) == {3: batch}
    assert stored_batches({}) == {}


def test_a_completion_sent_twice_counts_once() -> None:
    worker = ScriptedWorker()
    collector = PendingJobs(worker)
    rollouts = RolloutSchedule(collector, PROMPTS, settings(0), 7, "grpo", lambda ref: None, {})
    rollouts.request_rollouts(WeightRef("grpo", 0, ""), lambda ref: None)
    worker._results.insert(0, completion(worker.jobs[0], 0, 0))
    assert len(rollouts.take(1).completions) == 8


def test_results_of_unknown_jobs_are_never_trained_on() -> None:
    worker = ScriptedWorker()
    foreign = Job(999, "validation", 0, WeightRef("sft", 3, ""), tuple(PROMPTS), 1, None, 0)  # type: ignore[arg-type]
    rollouts = schedule(worker, settings(0))
    rollouts.request_rollouts(WeightRef("grpo", 0, ""), lambda ref: None)
    worker._results.insert(0, completion(foreign, 0, 0))
    assert {c.kind for c in rollouts.take(1).completions} == {"rollout"}


def test_a_job_that_fails_in_the_worker_names_itself() -> None:
    worker = ScriptedWorker()
    rollouts = schedule(worker, settings(0))
    rollouts.request_rollouts(WeightRef("grpo", 0, ""), lambda ref: None)
    worker._results = [JobFailed(worker.jobs[0].job_id, "rollout", "weights v0: shape of lm_head differs")]
    with pytest.raises(StageFailed, match="rollout job of step 1 failed in the worker: weights v0"):
        rollouts.take(1)


@pytest.mark.parametrize(
    ("outcome", "length", "expected"),
    [
        ("correct", 10, 1.0),
        ("wrong", 10, 0.1),
        ("no_answer", 10, 0.0),
        ("correct", 90, 0.5),
        ("wrong", 100, -0.9),
    ],
)
def test_rewards_by_hand(outcome: str, length: int, expected: float) -> None:
    chosen = Grpo(max_new_tokens=100, overlong_buffer=20, format_reward=0.1)
    ids = np.zeros(length, dtype=np.int32)
    made = Completion(0, "rollout", 0, 0, 0, ids, np.zeros(length, np.float32), "stop", "", outcome, "")
    assert reward(made, chosen) == pytest.approx(expected)


@pytest.mark.parametrize("group_size", [2, 3, 6, 8, 12])
def test_groups_of_equal_reward_are_counted_whatever_the_reward(group_size: int) -> None:
    rewards = np.array([[0.1] * group_size, [1.0] * group_size, [0.1, 1.0] + [0.1] * (group_size - 2)])
    count = rewards.size
    metrics = rollout_metrics(
        Rollouts(
            step=1,
            version=0,
            ex_ids=[""] * count,
            sequences=[TokenSequence(np.ones(2, np.int32), 1, finished=True)] * count,
            logprobs=[np.zeros(1, np.float32)] * count,
            rewards=rewards.reshape(-1),
            advantages=np.zeros(count),
            group_size=group_size,
        )
    )
    assert metrics["reward/frac_zero_std"] == pytest.approx(2 / 3)
