"""The stage `grpo`: policy gradients on groups of completions, rewarded by the grader alone.

    publish weights v → the worker generates for the steps that train on v → step t trains on version t − staleness
    rewards → advantages within each group → epochs × minibatches optimizer steps → weights v + 1

Rollouts for later steps are generated while this one trains. The ratio's denominator is the sampler's own log-probs
(or a pass before the update), never the policy's own at the same moment, so that clipping means something.
"""

from __future__ import annotations

import numpy as np

from engine.collector import Collector
from engine.context import Context, StageFailed
from engine.data import inputs
from engine.handover.weights import WeightPublisher
from engine.learning import replay
from engine.learning.advantages import group_advantages
from engine.learning.packing import Sequence
from engine.learning.policy_gradient import PolicyGradient
from engine.learning.replay import Rollouts
from engine.learning.rollouts import RolloutBatch, RolloutSchedule
from engine.learning.training import Clock, Training
from engine.learning.validation import Validation, example
from engine.stages.sft import rates
from profiles.schema import Grpo


def run(context: Context) -> None:
    """Trains the context's arm to its last step, from its newest checkpoint where there is one."""
    if context.generation is None:
        raise StageFailed("grpo: the run has no worker to generate with; its plan should hold one")
    settings = context.profile.grpo
    training = Training(context, settings, settings.steps, settings.epochs * settings.minibatches)
    publisher = WeightPublisher(context.folder.run_id)
    publisher.prepare(training.policy.named_weights())
    collector = Collector(context.generation)
    prompts = inputs.prompts(context, "train")
    held: dict[int, RolloutBatch] = training.resumed.get("rollouts", {})
    rollouts = RolloutSchedule(
        collector, prompts, settings, context.seed, training.arm.name, publisher.release, held
    )
    questions = inputs.prompts(context, "validation")[: settings.validation_rows]
    validation = Validation(context, collector, questions, publisher.release, training.scored)
    try:
        _train(training, rollouts, validation, publisher, PolicyGradient(training, settings))
    finally:
        publisher.close()
        training.close()


def _train(
    training: Training,
    rollouts: RolloutSchedule,
    validation: Validation,
    publisher: WeightPublisher,
    gradient: PolicyGradient,
) -> None:
    settings, clock = training.context.profile.grpo, Clock()

    def publish(validate: bool) -> None:
        with clock.measure("publish"):
            weights = publisher.publish(training.arm.name, training.step, training.policy.named_weights())
        rollouts.published(weights, publisher.hold)
        if validate:
            publisher.hold(weights)
            validation.submit(weights)
        publisher.release(weights)

    def save() -> None:
        validation.finish(before=training.step)
        training.save(rollouts=rollouts.held(training.step), validating=validation.pending())

    due = settings.validate_every > 0
    publish(due and (training.step == 0 or training.step in training.resumed.get("validating", [])))
    while training.step < training.total_steps:
        with clock.measure("wait_for_rollouts"):
            batch = rollouts.take(training.step)
        training.context.control.boundary(save)
        learned = experience(batch, settings)
        if settings.record_rollouts:
            replay.record(training.context.folder.rollouts / training.arm.name, learned)
        metrics = rollout_metrics(batch, settings)
        with clock.measure("train"):
            metrics |= gradient.train_on(learned)
        show(training, batch)
        rollouts.trained(training.step)
        training.step += 1
        last = training.step == training.total_steps
        publish(training.is_due(settings.validate_every) or (due and last))
        metrics["staleness"] = batch.step - batch.version
        training.scalars({**metrics, **rates(metrics, clock.lap())})
        training.progress()
        validation.collect()
        if training.is_due(settings.checkpoint_every) or last:
            save()
    validation.finish()


def rollout_metrics(batch: RolloutBatch, settings: Grpo) -> dict[str, float]:
    """What the sampler did, by TRL's names."""
    rewards = batch.rewards(settings)
    lengths = np.array([len(completion.token_ids) for completion in batch.completions])
    outcomes = [completion.outcome for completion in batch.completions]
    return {
        "reward/mean": rewards.mean(),
        "reward/std": rewards.std(),
        "reward/frac_zero_std": float(np.mean(rewards.std(axis=1) == 0)),
        "reward/correct": outcomes.count("correct") / len(outcomes),
        "completions/mean_length": lengths.mean(),
        "completions/p95_length": float(np.quantile(lengths, 0.95)),
        "completions/clipped_ratio": float(np.mean([c.finish == "length" for c in batch.completions])),
        "completions/no_answer_ratio": outcomes.count("no_answer") / len(outcomes),
    }


def experience(batch: RolloutBatch, settings: Grpo) -> Rollouts:
    """The batch as what is trained on and recorded: ids, log-probs, rewards, advantages."""
    prompts = {prompt.index: prompt for prompt in batch.prompts}
    rewards = batch.rewards(settings)
    sequences = [
        Sequence(
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
        advantages=group_advantages(rewards, settings.loss, settings.normalise_advantage).reshape(-1),
    )


def show(training: Training, batch: RolloutBatch) -> None:
    """Leaves a few of the step's completions in the record, to be read."""
    prompts = {prompt.index: prompt for prompt in batch.prompts}
    for made in batch.completions[: training.context.profile.grpo.examples_per_step]:
        row = example(made, prompts[made.prompt], training.arm.name, training.step, "train")
        training.context.emit(row)
