"""One policy-gradient step on rollouts: epochs × minibatches of updates.

    Rollouts ─▶ old log-probs ─▶ minibatch ─▶ microbatches: loss, backward ─▶ optimizer update ─▶ metrics

It takes `replay.Rollouts`, so a live worker and a record lead to the same arithmetic. Each of several ranks
takes its share of the microbatches. Counts, metrics and old log-probs are those of the whole step.
Two metrics compare log-probs and answer different questions:

    sampling/logprob_difference   sampler against trainer, both at the weights that sampled: arithmetic error
    policy/logprob_change         policy at each update against the ratio's denominator: how far it has moved
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.context import StageFailed
from engine.machine.ranks import gather, reduce_metrics, share
from engine.protocol.messages import derived_seed
from engine.training.arm_training import Training
from engine.training.losses import (
    LOSSES,
    Metrics,
    Settings,
    Terms,
    Totals,
    difference,
    importance_weights,
    merge,
)
from engine.training.packing import Packed, pack, spread
from engine.training.replay import Rollouts, with_blank
from profiles.training import Grpo

# Mean |Δ log-prob| that is always allowed: vLLM rounds to TF32 or bfloat16 at points where a trainer does
# not. Measured: 1e-7 with vLLM in float32 on a CPU; 0.041 in bfloat16 on a GPU with SmolLM2-135M, for which
# rounding allows 0.34.
SAMPLER_ROUNDING = 0.01
MISMATCH = "sampling/logprob_difference"
MOVEMENT = "policy/logprob_change"

# Row of the rollouts → (response tokens,).
LogprobsByRow = dict[int, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Data that all updates of one step share."""

    rollouts: Rollouts
    old: LogprobsByRow
    sampled_here: bool


class PolicyGradient:
    """Trains the policy of `training` on rollouts, one step per call.

    The loss is the one that the profile names.
    """

    def __init__(self, training: Training, settings: Grpo) -> None:
        self._training = training
        self._settings = settings
        self._sampler_checked = False
        self._loss = LOSSES[settings.loss]
        self._loss_settings = Settings(settings.clip_low, settings.clip_high, settings.kl_coefficient)
        if settings.kl_coefficient > 0:
            training.load_reference()

    def train_on(self, rollouts: Rollouts, sampled_here: bool = False) -> dict[str, float]:
        """Train on one step and return its metrics.

        Metrics are sums over microbatches, and means over the optimizer steps that have them.
        Args:
            sampled_here: the worker sampled `rollouts` at the policy's current weights. Only then are sampler
                and trainer compared.
        Raises: StageFailed before any update, if the sampler computes another distribution than the trainer.
        """
        chosen = self._trainable(rollouts)
        if self._settings.mask_truncated and not rollouts.sequences[chosen[0]].finished:
            rollouts = replace(rollouts, advantages=np.zeros_like(rollouts.advantages))
        rollouts = with_blank(rollouts)
        batch = _Batch(rollouts, self._old_logprobs(rollouts, chosen), sampled_here)
        minibatches = self._minibatches(rollouts.step, chosen)
        steps = [self._update(batch, rows, is_first=place == 0) for place, rows in enumerate(minibatches)]
        metrics = {
            key: (max if key.endswith("/max") else _mean)(step[key] for step in steps if key in step)
            for key in {key: None for step in steps for key in step}
        }
        metrics["train/tokens"] = float(sum(len(rollouts.sequences[row].token_ids) for row in chosen))
        return metrics

    def _trainable(self, rollouts: Rollouts) -> list[int]:
        """Return all rows, or only those that ended by themselves.

        If all were truncated, return all rows; the caller then sets their advantages to 0.
        """
        rows = list(range(len(rollouts.sequences)))
        if not self._settings.mask_truncated:
            return rows
        return [row for row in rows if rollouts.sequences[row].finished] or rows

    def _minibatches(self, step: int, rows: list[int]) -> Iterator[list[int]]:
        for epoch in range(self._settings.epochs):
            seed = derived_seed(
                "minibatch", self._training.context.seed, self._training.arm.name, step, epoch
            )
            order = np.random.default_rng(seed).permutation(rows)
            for part in np.array_split(order, self._settings.minibatches):
                if len(part):
                    yield part.tolist()

    def _old_logprobs(self, rollouts: Rollouts, rows: list[int]) -> LogprobsByRow:
        """Return the ratio's denominator of each row `(response tokens,)`."""
        sampled = dict(enumerate(rollouts.logprobs))
        if self._settings.old_logprobs == "sampler":
            return sampled
        own = self._training.budget.run(
            self._training.step,
            lambda budget: self._trainer_logprobs(rollouts, rows, budget),
            self._training.policy.clear_gradients,
        )
        return sampled | gather(own)

    def _trainer_logprobs(self, rollouts: Rollouts, rows: list[int], budget: int) -> LogprobsByRow:
        old: LogprobsByRow = {}
        for packed, members in self._microbatches(rollouts, rows, budget):
            with torch.no_grad():
                logprobs, _ = self._training.policy.logprobs(packed, self._settings.temperature)
            pieces = logprobs[packed.mask].cpu().numpy()
            lengths = [rollouts.sequences[row].response_length for row in members]
            old |= zip(members, np.split(pieces, np.cumsum(lengths)[:-1]), strict=True)
        return old

    def _update(self, batch: _Batch, rows: list[int], is_first: bool) -> dict[str, float]:
        """Run one optimizer step on `rows`.

        The first update of a step still has the weights from before the step.
        """
        rollouts = batch.rollouts
        totals = Totals(
            tokens=sum(rollouts.sequences[row].response_length for row in rows),
            sequences=len(rows),
            constant=len(rows) * self._settings.max_new_tokens,
        )
        parts = self._training.budget.run(
            self._training.step,
            lambda budget: [
                self._backward(packed, members, batch, totals, is_first)
                for packed, members in self._microbatches(rollouts, rows, budget)
            ],
            self._training.policy.clear_gradients,
        )
        metrics = reduce_metrics(merge(parts))
        if is_first and batch.sampled_here:
            self._check_sampler(metrics)
        update = self._training.optimizer_step()
        return {
            **{key: value for key, value in metrics.items() if key != "loss"},
            "train/loss": metrics["loss"],
            "train/grad_norm": update.grad_norm,
            "train/learning_rate": update.learning_rate,
        }

    def _backward(
        self, packed: Packed, members: list[int], batch: _Batch, totals: Totals, is_first: bool
    ) -> Metrics:
        settings, rollouts = self._settings, batch.rollouts
        logprobs, entropy = self._training.policy.logprobs(packed, settings.temperature)
        sampler = spread(packed, [rollouts.logprobs[row] for row in members])
        before = spread(packed, [batch.old[row] for row in members])
        corrects = settings.old_logprobs == "trainer"
        advantages = rollouts.advantages[members]
        metrics: Metrics = {}
        importance = None
        if corrects or is_first:
            # The trainer's own log-probs at the weights from before the step.
            own = before if corrects else logprobs.detach()
            importance, metrics = importance_weights(
                own, sampler, packed.mask, settings.importance_cap, totals
            )
            if batch.sampled_here:
                metrics |= difference(MISMATCH, own, sampler, packed.mask, totals)
        terms = Terms(
            logprobs=logprobs,
            old_logprobs=before,
            advantages=torch.tensor(advantages, dtype=torch.float32, device=self._training.device),
            mask=packed.mask,
            sequence=packed.sequence,
            importance=importance if corrects else None,
            reference_logprobs=self._reference_logprobs(packed),
        )
        output = self._loss(terms, self._loss_settings, totals)
        torch.autograd.backward(output.loss)
        metrics |= difference(MOVEMENT, logprobs.detach(), before, packed.mask, totals)
        metrics["train/entropy"] = (entropy * packed.mask).sum() / totals.tokens
        return metrics | output.metrics

    def _check_sampler(self, metrics: dict[str, float]) -> None:
        """Compare sampler and trainer once, at the first rollouts that allow it.

        Later differences are shown and do not stop a run: rounding weighs more as a policy sharpens.
        """
        if self._sampler_checked:
            return
        self._sampler_checked = True
        # A temperature magnifies rounding. Renormalising over what top-p keeps adds at most −log(top_p).
        rounding = max(self._training.allowed.mean, SAMPLER_ROUNDING) / min(self._settings.temperature, 1.0)
        allowed = rounding - math.log(self._settings.top_p)
        mean, largest = metrics[f"{MISMATCH}/mean"], metrics[f"{MISMATCH}/max"]
        if not mean <= allowed:
            generator = self._training.context.profile.hardware.generator
            raise StageFailed(
                f"hardware.generator {generator!r} does not compute this model as the trainer does: "
                f"at the same weights mean |Δ log-prob| {mean:.3g}, max {largest:.3g}, allowed mean {allowed:.2g}; "
                "choose the other generator or another model"
            )

    def _reference_logprobs(self, packed: Packed) -> Tensor | None:
        reference = self._training.reference
        if reference is None:
            return None
        with torch.no_grad():
            return reference.logprobs(packed, self._settings.temperature)[0]

    def _microbatches(
        self, rollouts: Rollouts, rows: list[int], budget: int
    ) -> Iterator[tuple[Packed, list[int]]]:
        """Yield this rank's packed microbatches, each with its rollout rows."""
        with_blank = [*rows, len(rollouts.sequences) - 1]
        for packed in pack([rollouts.sequences[row] for row in rows], budget, share=share()):
            yield packed.to(self._training.device), [with_blank[place] for place in packed.rows.tolist()]


def _mean(values: Iterator[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
