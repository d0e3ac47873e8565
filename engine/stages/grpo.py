"""The stage `grpo`: policy gradients on groups of completions, rewarded by the grader alone.

    publish weights v → the worker generates for the steps that train on v
    step N, the N-th update, trains on version N − 1 − staleness and makes weights N
    rewards → advantages within each group → epochs × minibatches optimizer steps → weights N

Rollouts for later steps are generated while this one trains. The ratio's denominator is the sampler's own log-probs
(or a pass before the update), never the policy's own at the same moment, so that clipping means something. With
`grpo.replay` the rollouts are those that another run has recorded, and no worker is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from engine.collector import Collector
from engine.context import Context, StageFailed
from engine.data import inputs
from engine.handover.publisher import Publisher, publisher_of
from engine.learning.policy_gradient import PolicyGradient
from engine.learning.sources import Replayed, Sampled, Source
from engine.learning.training import Clock, Training
from engine.learning.validation import Validation, beside
from engine.messages import WeightRef
from engine.stages.sft import rates
from store.records import Event

# Group advantages are differences within a question, so equal rewards give no gradient.
NOTHING_TO_LEARN = (
    "the policy did not move in any of {steps} steps: all completions of each question had the same reward; "
    "use easier questions, a larger grpo.group_size, another model or grpo.format_reward"
)


def run(context: Context) -> None:
    """Trains the context's arm to its last step, from its newest checkpoint where there is one."""
    settings = context.profile.grpo
    if context.generation is None and not settings.replay:
        raise StageFailed("grpo: the run has no worker to generate with; its plan should hold one")
    if not settings.replay and not inputs.prompts(context, "train"):
        raise StageFailed("grpo: there are no training questions; see the summary of stage data")
    updates = settings.epochs * settings.minibatches
    with (
        closing(publisher_of(context.folder.run_id)) as publisher,
        Training(context, settings, settings.steps, updates) as training,
    ):
        collector = Collector(context.generation) if context.generation is not None else None
        source = _source(training, collector, publisher)
        validation = beside(training, collector, publisher)
        _train(training, source, validation, publisher, PolicyGradient(training, settings))
        training.finish()


def _source(training: Training, collector: Collector | None, publisher: Publisher) -> Source:
    context, replay = training.context, training.context.profile.grpo.replay
    if collector is not None and not replay:
        return Sampled(training, collector, publisher)
    without = "" if collector is not None else "; no worker is there, so validation is left out"
    message = f"trains on the recorded rollouts of {replay}{without}"
    context.emit(Event("log", message, context.stage, training.arm.name, payload={"level": "info"}))
    return Replayed(training)


def _train(
    training: Training,
    source: Source,
    validation: Validation | None,
    publisher: Publisher,
    gradient: PolicyGradient,
) -> None:
    settings, clock = training.settings, Clock()

    def publish(validates: bool) -> None:
        """Publishes the weights of this step where somebody needs them."""
        if (validates and validation is not None) or source.needs(training.step):
            with clock.measure("publish"):
                weights = publisher.publish(training.arm.name, training.step, training.policy.named_weights())
            offer(weights, validates)

    def offer(weights: WeightRef, validates: bool) -> None:
        """Hands published weights, held once, to whoever needs them."""
        source.published(weights)
        if validates and validation is not None:
            publisher.hold(weights)
            validation.submit(weights)
        publisher.release(weights)

    def save() -> None:
        source.settle()  # a run that resumes from the checkpoint records only the steps after it
        held = source.held(training.step)
        owed = source.owed(training.step) + (validation.owed(training.step) if validation is not None else [])
        lent = [publisher.lend(weights) for weights in dict.fromkeys(owed)]
        training.save(lent, batches=held, validating=validation.pending() if validation is not None else [])

    first, moved = training.step, False
    validating = training.resumed.get("validating", [0])
    for weights in training.publish_carried(publisher):
        offer(weights, weights.version in validating)
    publish(training.step in validating)
    while training.step < training.total_steps:
        _wait_for_rollouts(training, source, clock, save)
        rollouts = source.take(training.step + 1)
        metrics = source.report(rollouts)
        sampled_here = not training.context.profile.grpo.replay and rollouts.version == training.step
        with clock.measure("train"):
            metrics |= gradient.train_on(rollouts, sampled_here)
        source.trained(rollouts.step)
        training.step = rollouts.step
        moved |= metrics["train/grad_norm"] != 0.0
        last = training.step == training.total_steps
        publish(training.is_due(settings.validate_every) or last)
        metrics["staleness"] = rollouts.step - 1 - rollouts.version
        training.scalars({**metrics, **rates(metrics, clock.lap())})
        training.progress()
        if validation is not None:
            validation.collect()
        if training.is_due(settings.checkpoint_every) or last:
            save()
    source.settle()
    if not moved and training.step > first:
        training.warn(NOTHING_TO_LEARN.format(steps=training.step - first))
    if validation is not None:
        validation.finish(lambda: training.boundary(save))


def _wait_for_rollouts(training: Training, source: Source, clock: Clock, save: Callable[[], None]) -> None:
    """Return when the next step's rollouts are there. Commands are obeyed meanwhile."""
    is_there = False
    while not is_there:
        with clock.measure("wait_for_rollouts"):
            is_there = source.arrived(training.step + 1)
        training.boundary(save)
