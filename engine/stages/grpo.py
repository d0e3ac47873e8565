"""The stage `grpo`: policy gradients on groups of completions.

The grader rewards each completion.

             trainer                                             worker
    ┌─▶ publish weights N ─────────── WeightRef ───────────▶ load weights N
    │   submit jobs for later steps ─ Job: prompts, seed ──▶ generate groups, grade each completion
    │   wait for rollouts ◀────────── Completion, JobDone ── tokens, log-probs, outcome
    │   rewards ─▶ advantages within each group
    │   epochs × minibatches optimizer steps
    └── N += 1, checkpoint if due

Step N is the N-th update. It trains on rollouts of version N − 1 − staleness and produces weights N. Rollouts
for later steps are generated while this step trains.

The ratio's denominator is the sampler's own log-probs, or those of a pass before the update. It is never the
policy's log-probs of the same moment, because the ratio would then be 1 and clipping without effect.
With `grpo.replay` the rollouts are those that another run has recorded, and no worker is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial

from engine.context import Context, StageFailed
from engine.data import inputs
from engine.pending_jobs import PendingJobs
from engine.protocol.messages import WeightRef
from engine.stages.sft import rates
from engine.training.arm_training import Clock, Training
from engine.training.policy_gradient import PolicyGradient
from engine.training.sources import RecordedRollouts, RolloutSource, WorkerRollouts
from engine.training.validation import Validation, validation_of
from engine.weight_sync.publisher import Publisher, publisher_of
from store.events import LogLine

# Group advantages are differences within a question, so equal rewards give no gradient.
NOTHING_TO_LEARN = (
    "the policy did not move in any of {steps} steps: all completions of each question had the same reward; "
    "use easier questions, a larger grpo.group_size, another model or grpo.format_reward"
)


def run(context: Context) -> None:
    """Train the context's arm to its last step.

    Training starts from the newest checkpoint if there is one.
    Raises: StageFailed if the run has no worker or no training questions.
    """
    settings = context.profile.grpo
    if context.generation is None and not settings.replay:
        raise StageFailed("grpo: internal error: the run has no worker to generate with; please report it")
    if not settings.replay and not inputs.prompts(context, "train"):
        raise StageFailed("grpo: there are no training questions; see the summary of stage data")
    # Optimizer updates per step; the learning-rate schedule counts them, not the steps.
    updates = settings.epochs * settings.minibatches
    with (
        closing(publisher_of(context.folder.run_id)) as publisher,
        Training(context, settings, settings.steps, updates) as training,
    ):
        pending_jobs = PendingJobs(context.generation) if context.generation is not None else None
        source = _source(training, pending_jobs, publisher)
        validation = validation_of(training, pending_jobs, publisher)
        _train(training, source, validation, publisher, PolicyGradient(training, settings))
        training.finish()


def _source(training: Training, pending_jobs: PendingJobs | None, publisher: Publisher) -> RolloutSource:
    context, replay = training.context, training.context.profile.grpo.replay
    if pending_jobs is not None and not replay:
        return WorkerRollouts(training, pending_jobs, publisher)
    without = "" if pending_jobs is not None else "; validation is skipped, because the run has no worker"
    message = f"training on the recorded rollouts of {replay}{without}"
    context.emit(LogLine("info").event(message, context.stage, training.arm.name))
    return RecordedRollouts(training)


def _train(
    training: Training,
    source: RolloutSource,
    validation: Validation | None,
    publisher: Publisher,
    gradient: PolicyGradient,
) -> None:
    settings, clock = training.settings, Clock()

    def publish(validates: bool) -> None:
        """Publish this step's weights if a validation or rollouts need them."""
        # A copy of the weights costs time and a slot of shared memory, so versions without a use are skipped.
        if (validates and validation is not None) or source.needs_rollouts(training.step):
            with clock.measure("publish"):
                weights = publisher.publish(training.arm.name, training.step, training.policy.named_weights())
            offer(weights, validates)

    def offer(weights: WeightRef, validates: bool) -> None:
        _offer(weights, source, validation if validates else None, publisher)

    save = partial(_save, training, source, validation, publisher)
    first, moved = training.step, False
    validating = training.resumed.get("validating", [0])
    # After a restart, older versions come first: rollouts of the next steps are still due under them.
    for weights in training.publish_extra_weights(publisher):
        offer(weights, weights.version in validating)
    publish(training.step in validating)
    while training.step < training.total_steps:
        # The worker generates these rollouts while earlier steps train, so this wait is short if the worker
        # keeps up. Commands are handled in it: the weights and all counters belong to one step.
        _wait_for_rollouts(training, source, clock, save)
        rollouts = source.take(training.step + 1)
        metrics = source.report(rollouts)
        # True if the current weights sampled these rollouts, so that sampler and policy should agree.
        sampled_here = not training.context.profile.grpo.replay and rollouts.version == training.step
        with clock.measure("train"):
            metrics |= gradient.train_on(rollouts, sampled_here)
        # Free the rollouts before publishing: jobs for later steps may start under the new weights.
        source.release(rollouts.step)
        training.step = rollouts.step
        moved |= metrics["train/grad_norm"] != 0.0
        last = training.step == training.total_steps
        # Publish before the metrics are sent, because the worker may be idle until it gets these weights.
        publish(training.is_due(settings.validate_every) or last)
        metrics["staleness"] = rollouts.step - 1 - rollouts.version
        training.scalars({**metrics, **rates(metrics, clock.lap())})
        training.progress()
        # Take what has arrived, and never wait: a validation may span several steps.
        if validation is not None:
            validation.collect()
        # The checkpoint comes last, so that it includes this step's publications and finished validations.
        if training.is_due(settings.checkpoint_every) or last:
            save()
    source.flush()
    # An unchanged policy is a valid but useless result; warn about its cause.
    if not moved and training.step > first:
        training.warn(NOTHING_TO_LEARN.format(steps=training.step - first))
    if validation is not None:
        validation.finish(lambda: training.boundary(save))


def _offer(
    weights: WeightRef, source: RolloutSource, validation: Validation | None, publisher: Publisher
) -> None:
    """Pass published weights to the rollout source and to `validation`."""
    # The publisher returns the weights with one reference. Each user takes its own before it is released
    # here, so that the slot is not reused while a job still reads it.
    source.request_rollouts(weights)
    if validation is not None:
        publisher.hold(weights)
        validation.submit(weights)
    publisher.release(weights)


def _save(
    training: Training, source: RolloutSource, validation: Validation | None, publisher: Publisher
) -> None:
    """Start a checkpoint with what jobs in flight need after a restart.

    These are rollouts and older weights.
    """
    # A resumed run records only later steps, so the records up to this step must be safe first.
    source.flush()
    # Batches first: a job needs its weights only until its batch is stored.
    to_store = source.batches_to_store(training.step)
    in_flight, validating = source.weights_in_flight(training.step), list[int]()
    if validation is not None:
        in_flight += validation.weights_in_flight(training.step)
        validating = validation.pending_versions()
    # Both may need the same version, which the checkpoint stores once.
    borrowed = [publisher.borrow(weights) for weights in dict.fromkeys(in_flight)]
    training.save(borrowed, batches=to_store, validating=validating)


def _wait_for_rollouts(
    training: Training, source: RolloutSource, clock: Clock, save: Callable[[], None]
) -> None:
    """Wait until the next step's rollouts have arrived.

    Handle commands between polls.
    """
    is_there = False
    while not is_there:
        with clock.measure("wait_for_rollouts"):
            is_there = source.arrived(training.step + 1)
        training.boundary(save)
