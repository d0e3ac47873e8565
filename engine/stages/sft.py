"""The stage `sft`: supervised fine-tuning on worked solutions.

The loss is next-token cross-entropy: the mean over all answer tokens of the batch, including end-of-sequence
if the answer ended by itself. The batch of step t is a pure function of seed and t.

Validation runs on the worker in parallel with training. Step 0 is validated with the weights of the initial
model's checkpoint, so that training does not wait for a first copy of them.
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass, field

import torch

from engine.context import Context, StageFailed
from engine.data import inputs
from engine.data.order import batch_rows
from engine.data.sequence import TokenSequence
from engine.machine import ranks
from engine.pending_jobs import PendingJobs
from engine.training.arm_training import Clock, Training
from engine.training.packing import pack
from engine.training.validation import Validation, validation_of
from engine.weight_sync.publisher import Publisher, publisher_of

# Slots of shared memory. Up to this many validations become due, and hold weights, while a worker starts.
SLOTS_AHEAD = 4


def run(context: Context) -> None:
    """Train the context's arm to its last step.

    Training starts from the newest checkpoint if there is one.
    Raises: StageFailed without training sequences, or if a batch has no answer tokens.
    """
    settings = context.profile.sft
    sequences = inputs.sequences(context)
    if not len(sequences):
        raise StageFailed(
            "sft: there are no traces to train on; see the summaries of data, traces and preprocess"
        )
    total = settings.steps or math.ceil(len(sequences) * settings.epochs / settings.batch_size)
    with (
        closing(publisher_of(context.folder.run_id)) as publisher,
        Training(context, settings, total) as training,
    ):
        pending_jobs = PendingJobs(context.generation) if context.generation is not None else None
        validation = validation_of(training, pending_jobs, publisher)
        _SftLoop(training, sequences, validation, publisher).run()
        training.finish()


@dataclass(slots=True)
class _SftLoop:
    """The steps of one arm, and what they share."""

    training: Training
    sequences: inputs.Sequences
    validation: Validation | None
    publisher: Publisher
    clock: Clock = field(default_factory=Clock)

    def run(self) -> None:
        """Train from the present step to the last one."""
        training = self.training
        validating = training.resumed.get("validating", [0])
        if self.validation is not None:
            self._submit_earlier(self.validation, starts=0 in validating)
        self._validate(training.step > 0 and training.step in validating)
        while training.step < training.total_steps:
            training.boundary(self._save)
            self._step()
        if self.validation is not None:
            self.validation.finish(lambda: training.boundary(self._save))

    def _submit_earlier(self, validation: Validation, *, starts: bool) -> None:
        """Submit the validations that are due from before this start.

        With `starts`, the initial model is one of them.
        """
        self.publisher.prepare(self.training.policy.named_weights(), SLOTS_AHEAD)
        if starts:
            validation.submit(self.training.origin, permanent=True)
        for weights in self.training.publish_extra_weights(self.publisher):
            validation.submit(weights)

    def _step(self) -> None:
        training, settings = self.training, self.training.settings
        context = training.context
        size, seed = context.profile.sft.batch_size, (context.seed, training.arm.name)
        rows = batch_rows(len(self.sequences), training.step, size, "sft", *seed)
        with self.clock.measure("train"):
            metrics = update(training, [self.sequences[row] for row in rows])
        training.step += 1
        last = training.step == training.total_steps
        self._validate(training.is_due(settings.validate_every) or last)
        training.scalars({**metrics, **rates(metrics, self.clock.lap())})
        training.progress()
        if training.is_due(settings.checkpoint_every) or last:
            self._save()

    def _validate(self, is_due: bool) -> None:
        """Submit a validation if one `is_due`, and collect finished ones.

        The only cost is a weight copy.
        """
        if self.validation is None:
            return
        with self.clock.measure("validate"):
            if is_due:
                weights = self.training.policy.named_weights()
                self.validation.submit(
                    self.publisher.publish(self.training.arm.name, self.training.step, weights)
                )
            self.validation.collect()

    def _save(self) -> None:
        if self.validation is None:
            return self.training.save(validating=[])
        in_flight = self.validation.weights_in_flight(self.training.step)
        borrowed = [self.publisher.borrow(weights) for weights in in_flight]
        return self.training.save(borrowed, validating=self.validation.pending_versions())


def update(training: Training, batch: list[TokenSequence]) -> dict[str, float]:
    """Take one optimizer step on `batch`; return its metrics by name.

    The loss is the mean over all answer tokens of the batch.
    """
    loss, tokens = training.budget.run(
        training.step, lambda budget: _backward(training, batch, budget), training.policy.clear_gradients
    )
    moved = training.optimizer_step()
    return {
        "train/loss": loss,
        "train/grad_norm": moved.grad_norm,
        "train/learning_rate": moved.learning_rate,
        "train/tokens": tokens,
    }


def _backward(training: Training, batch: list[TokenSequence], budget: int) -> tuple[float, int]:
    """Accumulate the gradients of this rank's share of `batch`.

    A microbatch has at most `budget` tokens.
    Returns: the mean loss of the whole batch, and its number of tokens.
    """
    answer_tokens = sum(sequence.response_length for sequence in batch)
    if answer_tokens == 0:
        raise StageFailed("sft: a batch has no answer tokens; raise preprocess.max_tokens")
    total = torch.zeros((), device=training.device)
    for packed in pack(batch, budget, share=ranks.share()):
        loss, _ = training.policy.cross_entropy(packed.to(training.device))
        torch.autograd.backward(loss / answer_tokens)
        total += loss.detach()
    whole = ranks.reduce_metrics({"loss": float(total) / answer_tokens})
    return whole["loss"], sum(len(sequence.token_ids) for sequence in batch)


def rates(metrics: dict[str, float], times: dict[str, float]) -> dict[str, float]:
    """Return `times` and the training speed in tokens per second.

    Args:
        metrics: must have "train/tokens", which excludes padding.
        times: seconds; must have "time/train".
    """
    return {**times, "train/tokens_per_second": metrics["train/tokens"] / times["time/train"]}
