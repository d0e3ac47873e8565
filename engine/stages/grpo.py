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

from contextlib import closing
from dataclasses import dataclass, field

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
        _GrpoLoop(training, source, validation, publisher, PolicyGradient(training, settings)).run()
        training.finish()


def _source(training: Training, pending_jobs: PendingJobs | None, publisher: Publisher) -> RolloutSource:
    context, replay = training.context, training.context.profile.grpo.replay
    if pending_jobs is not None and not replay:
        return WorkerRollouts(training, pending_jobs, publisher)
    without = "" if pending_jobs is not None else "; validation is skipped, because the run has no worker"
    message = f"training on the recorded rollouts of {replay}{without}"
    context.emit(LogLine("info").event(message, context.stage, training.arm.name))
    return RecordedRollouts(training)


@dataclass(slots=True)
class _GrpoLoop:
    """The steps of one arm, and what they share."""

    training: Training
    source: RolloutSource
    validation: Validation | None
    publisher: Publisher
    gradient: PolicyGradient
    clock: Clock = field(default_factory=Clock)

    def run(self) -> None:
        """Train from the present step to the last one."""
        training, first, moved = self.training, self.training.step, False
        self._publish_after_restart()
        while training.step < training.total_steps:
            moved |= self._step()
        self.source.flush()
        # An unchanged policy is a valid but useless result; warn about its cause.
        if not moved and training.step > first:
            training.warn(NOTHING_TO_LEARN.format(steps=training.step - first))
        if self.validation is not None:
            self.validation.finish(lambda: training.boundary(self._save))

    def _publish_after_restart(self) -> None:
        """Publish the weights that jobs in flight and the next step need."""
        validating = self.training.resumed.get("validating", [0])
        # After a restart, older versions come first: rollouts of the next steps are still due under them.
        for weights in self.training.publish_extra_weights(self.publisher):
            self._offer(weights, weights.version in validating)
        self._publish(self.training.step in validating)

    def _step(self) -> bool:
        """Do one step. Return True if the policy moved."""
        training, source, settings = self.training, self.source, self.training.settings
        # The worker generates these rollouts while earlier steps train, so this wait is short if the worker
        # keeps up. Commands are handled in it: the weights and all counters belong to one step.
        self._wait_for_rollouts()
        rollouts = source.take(training.step + 1)
        metrics = source.report(rollouts)
        # True if the current weights sampled these rollouts, so that sampler and policy should agree.
        sampled_here = not training.context.profile.grpo.replay and rollouts.version == training.step
        with self.clock.measure("train"):
            metrics |= self.gradient.train_on(rollouts, sampled_here)
        # Free the rollouts before publishing: jobs for later steps may start under the new weights.
        source.release(rollouts.step)
        training.step = rollouts.step
        last = training.step == training.total_steps
        # Publish before the metrics are sent, because the worker may be idle until it gets these weights.
        self._publish(training.is_due(settings.validate_every) or last)
        metrics["staleness"] = rollouts.step - 1 - rollouts.version
        self._report(metrics)
        # The checkpoint comes last, so that it includes this step's publications and finished validations.
        if training.is_due(settings.checkpoint_every) or last:
            self._save()
        return metrics["train/grad_norm"] != 0.0

    def _report(self, metrics: dict[str, float]) -> None:
        self.training.scalars({**metrics, **rates(metrics, self.clock.lap())})
        self.training.progress()
        # Take what has arrived, and never wait: a validation may span several steps.
        if self.validation is not None:
            self.validation.collect()

    def _publish(self, validates: bool) -> None:
        """Publish this step's weights if a validation or rollouts need them."""
        training = self.training
        # A copy of the weights costs time and a slot of shared memory, so versions without a use are skipped.
        if (validates and self.validation is not None) or self.source.needs_rollouts(training.step):
            with self.clock.measure("publish"):
                named = training.policy.named_weights()
                weights = self.publisher.publish(training.arm.name, training.step, named)
            self._offer(weights, validates)

    def _offer(self, weights: WeightRef, validates: bool) -> None:
        """Pass published weights to the rollout source and to a validation."""
        # The publisher returns the weights with one reference. Each user takes its own before it is released
        # here, so that the slot is not reused while a job still reads it.
        self.source.request_rollouts(weights)
        if validates and self.validation is not None:
            self.publisher.hold(weights)
            self.validation.submit(weights)
        self.publisher.release(weights)

    def _save(self) -> None:
        """Start a checkpoint with what jobs in flight need after a restart.

        These are rollouts and older weights.
        """
        step = self.training.step
        # A resumed run records only later steps, so the records up to this step must be safe first.
        self.source.flush()
        # Batches first: a job needs its weights only until its batch is stored.
        to_store = self.source.batches_to_store(step)
        in_flight, validating = self.source.weights_in_flight(step), list[int]()
        if self.validation is not None:
            in_flight += self.validation.weights_in_flight(step)
            validating = self.validation.pending_versions()
        # Both may need the same version, which the checkpoint stores once.
        borrowed = [self.publisher.borrow(weights) for weights in dict.fromkeys(in_flight)]
        self.training.save(borrowed, batches=to_store, validating=validating)

    def _wait_for_rollouts(self) -> None:
        """Wait until the next step's rollouts have arrived.

        Handle commands between polls.
        """
        is_there = False
        while not is_there:
            with self.clock.measure("wait_for_rollouts"):
                is_there = self.source.arrived(self.training.step + 1)
            self.training.boundary(self._save)
