"""Policy-gradient losses for GRPO and its variants.

    rollouts ─▶ advantages ─▶ ratio = exp(logp − old_logp) ─▶ loss ─▶ metrics

To add a loss, write a function with the decorator `loss` and add its name to profiles.training.LossName
(docs/how-to/add-a-loss.md).
A step is trained in microbatches and their gradients add up. So every loss divides by counts of the whole
step (`Totals`), never by counts of its microbatch. For the same reason, each mean among the metrics is a
share of the step's mean: the shares of all microbatches add up to it (`merge`).
Metric names are TRL's if TRL has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from profiles.training import LossName

Metrics = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts of one optimizer step over all its microbatches and ranks.

    Attributes:
        tokens: response tokens.
        sequences: sequences.
        constant: dr_grpo's normaliser, sequences × the longest completion allowed.
    """

    tokens: int
    sequences: int
    constant: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a loss.

    Attributes:
        clip_low: the ratio is clipped to [1 − clip_low, 1 + clip_high].
        kl_coefficient: weight of the KL penalty; 0 omits it.
    """

    clip_low: float
    clip_high: float
    kl_coefficient: float = 0.0


@dataclass(frozen=True, slots=True)
class Terms:
    """Inputs of a loss for one microbatch.

    Per-token tensors are only read at positions with a true `mask`.
    Attributes:
        logprobs: (tokens,), with gradients.
        old_logprobs: (tokens,), from the sampler or from a pass before the first update.
        advantages: (sequences,).
        mask: (tokens,) bool.
        sequence: (tokens,) int64, the sequence that each token belongs to.
        importance: (tokens,) truncated weights of old against sampler; None means 1.
        reference_logprobs: (tokens,) of the parent, if there is a KL penalty.
    """

    logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    mask: Tensor
    sequence: Tensor
    importance: Tensor | None = None
    reference_logprobs: Tensor | None = None


@dataclass(frozen=True, slots=True)
class LossOutput:
    """A scalar to call backward on, and detached metrics."""

    loss: Tensor
    metrics: Metrics


LossFunction = Callable[[Terms, Settings, Totals], LossOutput]

# Every loss by the names that `grpo.loss` may have.
LOSSES: dict[LossName, LossFunction] = {}


def loss(*names: LossName) -> Callable[[LossFunction], LossFunction]:
    """Register the decorated function as the loss with these names."""

    def register(function: LossFunction) -> LossFunction:
        LOSSES.update(dict.fromkeys(names, function))
        return function

    return register


@loss("grpo")
def grpo(terms: Terms, settings: Settings, totals: Totals) -> LossOutput:
    """Average clipped token ratios over each sequence, then over sequences.

    Source: DeepSeekMath, arXiv 2402.03300.
    """
    ratio = token_ratio(terms)
    losses = surrogate(ratio, per_token(terms.advantages, terms), settings)
    return _finish(losses, sequence_mean, clipping(ratio, terms, settings, totals), terms, settings, totals)


@loss("dr_grpo")
def dr_grpo(terms: Terms, settings: Settings, totals: Totals) -> LossOutput:
    """Compute GRPO divided by a constant.

    Long wrong answers are then not favoured.
    Source: Dr. GRPO, arXiv 2503.20783.
    """
    ratio = token_ratio(terms)
    losses = surrogate(ratio, per_token(terms.advantages, terms), settings)
    return _finish(losses, constant_mean, clipping(ratio, terms, settings, totals), terms, settings, totals)


@loss("dapo")
def dapo(terms: Terms, settings: Settings, totals: Totals) -> LossOutput:
    """Compute GRPO with the mean over the step's tokens.

    The settings give the higher upper clip (clip-higher).
    Source: DAPO, arXiv 2503.14476.
    """
    ratio = token_ratio(terms)
    losses = surrogate(ratio, per_token(terms.advantages, terms), settings)
    return _finish(losses, token_mean, clipping(ratio, terms, settings, totals), terms, settings, totals)


@loss("gspo")
def gspo(terms: Terms, settings: Settings, totals: Totals) -> LossOutput:
    """Compute one ratio per sequence and clip it as a whole.

    The ratio is the geometric mean of the sequence's token ratios.
    Source: GSPO, arXiv 2507.18071.
    """
    log_ratio = (terms.logprobs - terms.old_logprobs) * terms.mask
    mean = sums(log_ratio, terms) / lengths(terms)
    ratio = per_token(torch.exp(mean), terms)
    losses = surrogate(ratio, per_token(terms.advantages, terms), settings)
    return _finish(losses, sequence_mean, clipping(ratio, terms, settings, totals), terms, settings, totals)


@loss("cispo")
def cispo(terms: Terms, settings: Settings, totals: Totals) -> LossOutput:
    """Weight REINFORCE by a detached ratio that is clipped from above.

    No token loses its gradient. There is only an upper clip.
    Source: MiniMax-M1, arXiv 2506.13585, equation 4.
    """
    ratio = token_ratio(terms)
    weight = ratio.detach().clamp(max=1.0 + settings.clip_high)
    losses = -weight * per_token(terms.advantages, terms) * terms.logprobs
    return _finish(losses, token_mean, clipping(ratio, terms, settings, totals), terms, settings, totals)


@loss("reinforce", "reinforce_baseline")
def reinforce(terms: Terms, settings: Settings, totals: Totals) -> LossOutput:
    """Compute −A · log π, averaged over the step's tokens.

    The ratio is reported but does not enter the loss. With rewards as advantages this is plain REINFORCE.
    With centred rewards it is REINFORCE with a baseline.
    Source: Williams 1992.
    """
    losses = -per_token(terms.advantages, terms) * terms.logprobs
    return _finish(
        losses, token_mean, clipping(token_ratio(terms), terms, settings, totals), terms, settings, totals
    )


def token_ratio(terms: Terms) -> Tensor:
    """Compute π / π_old of each token `(tokens,)`.

    It is 1 if the mask is false.
    """
    return torch.exp((terms.logprobs - terms.old_logprobs).masked_fill(~terms.mask, 0.0))


def surrogate(ratio: Tensor, advantages: Tensor, settings: Settings) -> Tensor:
    """Compute −min(r·A, clip(r)·A), elementwise.

    Args:
        ratio: (tokens,) π / π_old.
        advantages: (tokens,).
    Returns: (tokens,).
    Source: PPO, arXiv 1707.06347, equation 7.
    """
    clipped = ratio.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Estimate KL(policy ‖ reference) per token with Schulman's k3.

    The estimate is unbiased and never negative.
    Args:
        logprobs: (tokens,) of the policy.
        reference: (tokens,) of the reference.
    Returns: (tokens,), in nats.
    """
    log_ratio = reference - logprobs
    return torch.exp(log_ratio) - log_ratio - 1.0


def importance_weights(
    old: Tensor, sampler: Tensor, mask: Tensor, cap: float, totals: Totals
) -> tuple[Tensor, Metrics]:
    """Compute truncated weights per token, and their metrics.

    The weight is min(π_old / π_sampler, cap).
    They correct for a sampler with another version or other arithmetic (truncated importance sampling). The
    weight is 1 if the mask is false.
    Args:
        old: (tokens,) log-probs of the trainer.
        sampler: (tokens,) log-probs of the sampler.
        mask: (tokens,) bool.
    Returns: (tokens,) weights, and metrics.
    """
    ratio = torch.exp((old - sampler).masked_fill(~mask, 0.0))
    weights = ratio.clamp(max=cap)
    metrics = {
        "sampling/importance_sampling_ratio/mean": (weights * mask).sum() / totals.tokens,
        "sampling/importance_sampling_ratio/max": ratio.max(),
    }
    return weights, metrics


def difference(name: str, one: Tensor, other: Tensor, mask: Tensor, totals: Totals) -> Metrics:
    """Compute `NAME/mean` and `NAME/max` of |log-prob difference| per token.

    All tensors are `(tokens,)`.
    """
    apart = (one - other).masked_fill(~mask, 0.0).abs()
    return {f"{name}/mean": apart.sum() / totals.tokens, f"{name}/max": apart.max()}


def per_token(values: Tensor, terms: Terms) -> Tensor:
    """Repeat a value per sequence at each of its tokens.

    `(sequences,)` becomes `(tokens,)`.
    """
    return values.index_select(0, terms.sequence)


def sums(values: Tensor, terms: Terms) -> Tensor:
    """Sum `values` `(tokens,)` over each sequence `(sequences,)`."""
    return torch.zeros_like(terms.advantages, dtype=values.dtype).index_add(0, terms.sequence, values)


def lengths(terms: Terms) -> Tensor:
    """Count the response tokens of each sequence `(sequences,)`, at least 1."""
    return sums(terms.mask.float(), terms).clamp(min=1.0)


def token_mean(losses: Tensor, terms: Terms, totals: Totals) -> Tensor:
    """Weight every token of the step equally.

    Args:
        losses: (tokens,), 0 outside the responses.
    Returns: a scalar, this microbatch's part of the step's mean.
    """
    return losses.sum() / totals.tokens


def sequence_mean(losses: Tensor, terms: Terms, totals: Totals) -> Tensor:
    """Weight every sequence of the step equally, and every token within it.

    Arguments and result are those of `token_mean`.
    """
    return (sums(losses, terms) / lengths(terms)).sum() / totals.sequences


def constant_mean(losses: Tensor, terms: Terms, totals: Totals) -> Tensor:
    """Divide by the largest possible number of tokens of the step.

    Arguments and result are those of `token_mean`.
    """
    return losses.sum() / totals.constant


def clipping(ratio: Tensor, terms: Terms, settings: Settings, totals: Totals) -> Metrics:
    """Measure the ratio `(tokens,)` and the share of clipped tokens.

    The metrics are this microbatch's parts; see `merge`. A clipped token has no gradient.
    """
    advantages = per_token(terms.advantages, terms)
    ratio = ratio.detach()
    low = (ratio < 1.0 - settings.clip_low) & (advantages < 0) & terms.mask
    high = (ratio > 1.0 + settings.clip_high) & (advantages > 0) & terms.mask
    return {
        "ratio/mean": (ratio * terms.mask).sum() / totals.tokens,
        "ratio/max": (ratio * terms.mask).max(),
        "clip_ratio/low_mean": low.sum() / totals.tokens,
        "clip_ratio/high_mean": high.sum() / totals.tokens,
    }


def merge(parts: Iterable[Metrics]) -> dict[str, float]:
    """Merge the metrics of a step's microbatches.

    Metrics named `…/max` are maxima. All others add up.
    """
    merged: Metrics = {}
    for part in parts:
        for name, value in part.items():
            before = merged.get(name)
            if before is None:
                merged[name] = value
            else:
                merged[name] = torch.maximum(before, value) if name.endswith("/max") else before + value
    return {name: float(value) for name, value in merged.items()}


Aggregate = Callable[[Tensor, Terms, Totals], Tensor]


def _finish(
    losses: Tensor, aggregate: Aggregate, metrics: Metrics, terms: Terms, settings: Settings, totals: Totals
) -> LossOutput:
    """Apply what all losses share.

    That is importance weights, KL penalty, mask and aggregation.
    """
    if terms.importance is not None:
        losses = losses * terms.importance
    if terms.reference_logprobs is not None:
        divergence = kl_k3(terms.logprobs, terms.reference_logprobs).masked_fill(~terms.mask, 0.0)
        losses = losses + settings.kl_coefficient * divergence
        metrics["kl/mean"] = divergence.detach().sum() / totals.tokens
    total = aggregate(losses.masked_fill(~terms.mask, 0.0), terms, totals)
    metrics["loss"] = total.detach()
    return LossOutput(total, metrics)
