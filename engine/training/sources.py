"""Sources of the rollouts of a GRPO step.

    worker (WorkerRollouts) ───────────┐
                                   ├─▶ replay.Rollouts with this run's advantages ─▶ PolicyGradient
    record of a run (RecordedRollouts) ┘

The trainer does not see which source it has. A record holds ids, log-probs and rewards. Its questions, texts
and verdicts are in the run that recorded it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.context import StageFailed, fault_of
from engine.data import inputs
from engine.data.recorded import recorded_path, rollout_folder
from engine.data.sequence import TokenSequence
from engine.pending_jobs import PendingJobs
from engine.protocol.messages import WeightRef
from engine.training import replay
from engine.training.advantages import group_advantages, zero_variance
from engine.training.arm_training import Training
from engine.training.replay import Rollouts
from engine.training.rollout_recorder import RolloutRecorder
from engine.training.rollouts import RolloutBatch, RolloutSchedule, steps_on_version
from engine.training.validation import example
from engine.weight_sync.publisher import Publisher
from profiles.training import Grpo
from store.records import UNANSWERED


class RolloutSource(Protocol):
    """The training loop's interface for rollouts, step by step."""

    def needs_rollouts(self, version: int) -> bool:
        """Return True if a step trains on the weights after `version` steps."""

    def request_rollouts(self, weights: WeightRef) -> None:
        """Request the rollouts of every step that trains on published `weights`.

        The caller may release its own reference to them after this call.
        """

    def arrived(self, step: int) -> bool:
        """Return True if the rollouts of `step` are complete.

        Otherwise wait a moment and return False.
        """

    def take(self, step: int) -> Rollouts:
        """Return the rollouts of `step`; they stay held until `release`."""

    def report(self, rollouts: Rollouts) -> dict[str, float]:
        """Record the rollouts, and return metrics of the sampler by TRL's names."""

    def release(self, step: int) -> None:
        """Release the rollouts of `step`, which has been trained."""

    def flush(self) -> None:
        """Wait until everything reported is on the disk.

        Call it before a checkpoint or the end.
        """

    def batches_to_store(self, version: int) -> dict[int, RolloutBatch]:
        """Return the received batches that a checkpoint must store.

        The checkpoint follows `version` steps.
        """

    def weights_in_flight(self, version: int) -> list[WeightRef]:
        """Return the weights older than `version` that a checkpoint must store.

        Their rollouts have not arrived yet.
        """


class WorkerRollouts:
    """Rollouts that the worker generates, requested on schedule."""

    def __init__(self, training: Training, pending_jobs: PendingJobs, publisher: Publisher) -> None:
        context = training.context
        self._training = training
        self._settings = context.profile.grpo
        self._publisher = publisher
        self._schedule = RolloutSchedule(
            pending_jobs,
            inputs.prompts(context, "train"),
            self._settings,
            context.seed,
            training.arm.name,
            publisher.release,
            stored_batches(training.resumed),
            training.step + 1,
        )
        publisher.prepare(training.policy.named_weights())
        folder = context.folder.rollouts / training.arm.name
        self._recorder = RolloutRecorder(folder, self._settings.rollouts_gb)

    def needs_rollouts(self, version: int) -> bool:
        """Return True if a remaining step trains on weights after `version` steps."""
        return len(steps_on_version(version, self._settings)) > 0

    def request_rollouts(self, weights: WeightRef) -> None:
        """Request the missing rollouts of every step that trains on `weights`.

        Each request holds its own reference to the weights.
        """
        self._schedule.request_rollouts(weights, self._publisher.hold)

    def arrived(self, step: int) -> bool:
        """Return True if the rollouts of `step` are complete.

        Otherwise wait a moment and return False.
        """
        return self._schedule.arrived(step)

    def take(self, step: int) -> Rollouts:
        """Wait for the rollouts of `step` and return them with advantages."""
        return to_rollouts(self._schedule.take(step), self._settings)

    def report(self, rollouts: Rollouts) -> dict[str, float]:
        """Record the rollouts and some examples; return the sampler's metrics.

        The metrics have TRL's names. The rollouts are recorded if the profile requests it.
        """
        training, batch = self._training, self._schedule.take(rollouts.step)
        if self._settings.record_rollouts:
            self._recorder.record(rollouts)
        prompts = {prompt.index: prompt for prompt in batch.prompts}
        for made in batch.completions[: self._settings.examples_per_step]:
            training.context.emit(
                example(made, prompts[made.prompt], training.arm.name, rollouts.step, "train")
            )
        outcomes = [completion.outcome for completion in batch.completions]
        return rollout_metrics(rollouts) | {
            "reward/correct": outcomes.count("correct") / len(outcomes),
            "completions/no_answer_ratio": float(np.mean([each in UNANSWERED for each in outcomes])),
        }

    def release(self, step: int) -> None:
        """Release the rollouts of `step`, which has been trained."""
        self._schedule.release(step)

    def flush(self) -> None:
        """Wait until all recorded rollouts are on the disk."""
        self._recorder.wait()

    def batches_to_store(self, version: int) -> dict[int, RolloutBatch]:
        """Return the arrived batches that a checkpoint at `version` stores."""
        return self._schedule.batches_to_store(version)

    def weights_in_flight(self, version: int) -> list[WeightRef]:
        """Return the weights older than `version` with rollouts still in flight."""
        return self._schedule.weights_in_flight(version)


class RecordedRollouts:
    """Rollouts that the run in grpo.replay recorded for the same arm.

    Rewards are kept. Advantages are computed again.
    """

    def __init__(self, training: Training) -> None:
        self._settings = training.context.profile.grpo
        home = training.context.folder.home
        self._folder = rollout_folder(home, self._settings.replay, training.arm.name)
        self._vocabulary = int(training.policy.model.config.vocab_size)

    def needs_rollouts(self, version: int) -> bool:
        """Return False: the record has all rollouts."""
        return False

    def request_rollouts(self, weights: WeightRef) -> None:
        """Do nothing: the record has all rollouts."""

    def arrived(self, step: int) -> bool:
        """Return True: the record has all rollouts."""
        return True

    def take(self, step: int) -> Rollouts:
        """Read the rollouts of `step` from the record.

        Raises: StageFailed if the file is missing or damaged, or holds tokens that the model does not have.
        """
        path = recorded_path(self._folder, step)
        try:
            recorded = replay.read(self._folder, step)
            groups = recorded.rewards.reshape(-1, recorded.group_size)
            largest = max(int(sequence.token_ids.max()) for sequence in recorded.sequences)
        except FileNotFoundError:
            raise self._failure(
                f"{path} is missing, but existed at the start; restore it, then resume the run"
            ) from None
        except replay.DAMAGE as error:
            raise self._failure(
                f"{path} cannot be read ({fault_of(error)}); choose a run with a whole record"
            ) from error
        if largest >= self._vocabulary:
            raise self._failure(
                f"{path} holds token {largest}, this model has {self._vocabulary}; choose a run of the same model"
            )
        return replace(recorded, advantages=advantages(groups, self._settings))

    def report(self, rollouts: Rollouts) -> dict[str, float]:
        """Return the metrics that a record contains; write nothing."""
        return rollout_metrics(rollouts)

    def release(self, step: int) -> None:
        """Do nothing: the record stays."""

    def flush(self) -> None:
        """Do nothing: nothing is written."""

    def batches_to_store(self, version: int) -> dict[int, RolloutBatch]:
        """Return an empty dict: the record has all rollouts."""
        return {}

    def weights_in_flight(self, version: int) -> list[WeightRef]:
        """Return an empty list: no worker uses any weights."""
        return []

    def _failure(self, fault: str) -> StageFailed:
        return StageFailed(f"grpo.replay {self._settings.replay}: {fault}")


def stored_batches(state: dict[str, Any]) -> dict[int, RolloutBatch]:
    """Return the batches that a checkpoint stores, by step.

    Older versions counted steps from 0 and stored the batches under another key.
    """
    older: dict[int, RolloutBatch] = state.get("rollouts", {})
    batches: dict[int, RolloutBatch] = state.get("batches", {})
    return {step + 1: replace(batch, step=step + 1) for step, batch in older.items()} | batches


def advantages(rewards: NDArray[np.float64], settings: Grpo) -> NDArray[np.float64]:
    """Compute advantages for the profile's loss.

    Args:
        rewards: (groups, group_size).
    Returns: (completions,).
    """
    return group_advantages(rewards, settings.loss, settings.normalise_advantage).reshape(-1)


def to_rollouts(batch: RolloutBatch, settings: Grpo) -> Rollouts:
    """Convert a batch to rollouts: ids, log-probs, rewards, advantages."""
    prompts = {prompt.index: prompt for prompt in batch.prompts}
    rewards = batch.rewards(settings)
    sequences = [
        TokenSequence(
            np.concatenate([prompts[made.prompt].token_ids, made.token_ids]),
            len(prompts[made.prompt].token_ids),
            made.finish == "stop",
        )
        for made in batch.completions
    ]
    return Rollouts(
        step=batch.step,
        version=batch.version,
        ex_ids=[prompts[made.prompt].ex_id for made in batch.completions],
        sequences=sequences,
        logprobs=[made.logprobs for made in batch.completions],
        rewards=rewards.reshape(-1),
        advantages=advantages(rewards, settings),
        group_size=settings.group_size,
    )


def rollout_metrics(rollouts: Rollouts) -> dict[str, float]:
    """Return metrics of rewards and lengths, as far as a record contains them."""
    rewards = rollouts.rewards.reshape(-1, rollouts.group_size)
    lengths = np.array([sequence.response_length for sequence in rollouts.sequences])
    return {
        "reward/mean": rewards.mean(),
        "reward/std": rewards.std(),
        "reward/frac_zero_std": float(zero_variance(rewards).mean()),
        "completions/mean_length": lengths.mean(),
        "completions/p95_length": float(np.quantile(lengths, 0.95)),
        "completions/clipped_ratio": float(np.mean([not item.finished for item in rollouts.sequences])),
    }


# mypy checks here that the class has every method of the protocol, with the same types.
_worker_rollouts: type[RolloutSource] = WorkerRollouts
_recorded_rollouts: type[RolloutSource] = RecordedRollouts
