"""The stage `sft`: supervised fine-tuning on worked solutions.

The loss is next-token cross-entropy: the mean over all answer tokens of the batch, including end-of-sequence
if the answer ended by itself. The batch of step t is a pure function of seed and t.

Validation runs on the worker in parallel with training. Step 0 is validated with the weights of the initial
model's checkpoint, so that training does not wait for a first copy of them.
"""

from __future__ import annotations

import math
from contextlib import closing

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
    Raises: StageFailed if there are no training sequences, or a batch has no answer tokens.
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
        _train(training, sequences, validation, publisher)
        training.finish()


def _train(
    training: Training, sequences: inputs.Sequences, validation: Validation | None, publisher: Publisher
) -> None:
    settings, clock = training.settings, Clock()
    seed = (training.context.seed, training.arm.name)

    def validate(is_due: bool) -> None:
        """Submit a validation if one `is_due`, and collect finished ones.

        The only cost is a weight copy.
        """
        if validation is None:
            return
        with clock.measure("validate"):
            if is_due:
                weights = training.policy.named_weights()
                validation.submit(publisher.publish(training.arm.name, training.step, weights))
            validation.collect()

    def save() -> None:
        if validation is None:
            return training.save(validating=[])
        borrowed = [publisher.borrow(weights) for weights in validation.weights_in_flight(training.step)]
        return training.save(borrowed, validating=validation.pending_versions())

    validating = training.resumed.get("validating", [0])
    if validation is not None:
        publisher.prepare(training.policy.named_weights(), SLOTS_AHEAD)
        if 0 in validating:
            validation.submit(training.origin, permanent=True)
        for weights in training.publish_extra_weights(publisher):
            validation.submit(weights)
    validate(training.step > 0 and training.step in validating)
    while training.step < training.total_steps:
        training.boundary(save)
        rows = batch_rows(
            len(sequences), training.step, training.context.profile.sft.batch_size, "sft", *seed
        )
        with clock.measure("train"):
            metrics = update(training, [sequences[row] for row in rows])
        training.step += 1
        last = training.step == training.total_steps
        validate(training.is_due(settings.validate_every) or last)
        training.scalars({**metrics, **rates(metrics, clock.lap())})
        training.progress()
        if training.is_due(settings.checkpoint_every) or last:
            save()
    if validation is not None:
        validation.finish(lambda: training.boundary(save))


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
