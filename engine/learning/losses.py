"""Policy-gradient losses, each a small function of the same arguments; a new one is a function and a line in LOSSES.

A step is trained in microbatches whose gradients add up, so every loss divides by counts of the whole step (`Totals`),
never by its microbatch's own. Means among the metrics are shares of the step's mean for the same reason: over the
microbatches they add up to it (`merge`). Names are TRL's where it has one.
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
    """What one optimizer step trains on, over all its microbatches and ranks."""

    tokens: int  # response tokens
    sequences: int
    constant: int  # dr_grpo's normaliser: sequences × the longest completion allowed


@dataclass(frozen=True, slots=True)
class Settings:
    """Clip range of the ratio, [1 − clip_low, 1 + clip_high], and weight of the KL penalty."""

    clip_low: float
    clip_high: float
    kl_coefficient: float = 0.0


@dataclass(frozen=True, slots=True)
class Terms:
    """One microbatch. Per-token tensors are `(tokens,)` and only read where `mask` is true."""

    logprobs: Tensor  # (tokens,), with gradients
    old_logprobs: Tensor  # (tokens,): the sampler's, or those of a pass before the first update
    advantages: Tensor  # (sequences,)
    mask: Tensor  # (tokens,) bool
    sequence: Tensor  # (tokens,) int64: which sequence a token belongs to
    importance: Tensor | None = None  # (tokens,): truncated weights of old against sampler; none: 1
    reference_logprobs: Tensor | None = None  # (tokens,): of the parent, where there is a KL penalty


@dataclass(frozen=True, slots=True)
class LossOutput:
    """A scalar to call backward on, and detached metrics."""

    loss: Tensor
    metrics: Metrics


LossFunction = Callable[[Terms, Settings, Totals], LossOutput]


def grpo(terms: Terms, settings: Settings, totals: Totals) -> LossOutput:
    """Clipped token ratios, mean over each sequence, then over sequences (DeepSeekMath, arXiv 2402.03300)."""
    ratio = token_ratio(terms)
    losses = surrogate(ratio, per_token(terms.advantages, terms), settings)
    return _finish(losses, sequence_mean, clipping(ratio, terms, settings, totals), terms, settings, totals)


def dr_grpo(terms: Terms, settings: Settings, totals: Totals) -> LossOutput:
    """As grpo, but divided by a constant, so that long wrong answers are not favoured (arXiv 2503.20783)."""
    ratio = token_ratio(terms)
    losses = surrogate(ratio, per_token(terms.advantages, terms), settings)
    return _finish(losses, constant_mean, clipping(ratio, terms, settings, totals), terms, settings, totals)


def dapo(terms: Terms, settings: Settings, totals: Totals) -> LossOutput:
    """As grpo, but the mean is over the step's tokens; clip-higher comes from the settings (arXiv 2503.14476)."""
    ratio = token_ratio(terms)
    losses = surrogate(ratio, per_token(terms.advantages, terms), settings)
    return _finish(losses, token_mean, clipping(ratio, terms, settings, totals), terms, settings, totals)


def gspo(terms: Terms, settings: Settings, totals: Totals) -> LossOutput:
    """One ratio a sequence, the geometric mean of its tokens', clipped as a whole (arXiv 2507.18071)."""
    log_ratio = (terms.logprobs - terms.old_logprobs) * terms.mask
    mean = sums(log_ratio, terms) / lengths(terms)
    ratio = per_token(torch.exp(mean), terms)
    losses = surrogate(ratio, per_token(terms.advantages, terms), settings)
    return _finish(losses, sequence_mean, clipping(ratio, terms, settings, totals), terms, settings, totals)


def cispo(terms: Terms, settings: Settings, totals: Totals) -> LossOutput:
    """REINFORCE weighted by a ratio that is clipped from above and detached: no token loses its gradient.

    MiniMax-M1, arXiv 2506.13585, eq. 4: there is no lower clip.
    """
    ratio = token_ratio(terms)
    weight = ratio.detach().clamp(max=1.0 + settings.clip_high)
    losses = -weight * per_token(terms.advantages, terms) * terms.logprobs
    return _finish(losses, token_mean, clipping(ratio, terms, settings, totals), terms, settings, totals)


def reinforce(terms: Terms, settings: Settings, totals: Totals) -> LossOutput:
    """−A · log π, mean over the step's tokens (Williams 1992); the ratio is reported but does not enter.

    With rewards as advantages this is plain REINFORCE, with centred ones REINFORCE with a baseline.
    """
    losses = -per_token(terms.advantages, terms) * terms.logprobs
    return _finish(
        losses, token_mean, clipping(token_ratio(terms), terms, settings, totals), terms, settings, totals
    )


LOSSES: dict[LossName, LossFunction] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "dapo": dapo,
    "gspo": gspo,
    "cispo": cispo,
    "reinforce": reinforce,
    "reinforce_baseline": reinforce,
}


def token_ratio(terms: Terms) -> Tensor:
    """π / π_old of each token `(tokens,)`; 1 where the mask is false."""
    return torch.exp((terms.logprobs - terms.old_logprobs).masked_fill(~terms.mask, 0.0))


def surrogate(ratio: Tensor, advantages: Tensor, settings: Settings) -> Tensor:
    """−min(r·A, clip(r)·A), elementwise (PPO, arXiv 1707.06347, eq. 7)."""
    clipped = ratio.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(policy ‖ reference) per token: unbiased and never negative."""
    log_ratio = reference - logprobs
    return torch.exp(log_ratio) - log_ratio - 1.0


def importance_weights(
    old: Tensor, sampler: Tensor, mask: Tensor, cap: float, totals: Totals
) -> tuple[Tensor, Metrics]:
    """Compute truncated weights min(π_old / π_sampler, cap) per token, 1 where the mask is false, and their metrics.

    They correct for a sampler of another version or another arithmetic (truncated importance sampling).
    """
    ratio = torch.exp((old - sampler).masked_fill(~mask, 0.0))
    weights = ratio.clamp(max=cap)
    metrics = {
        "sampling/importance_sampling_ratio/mean": (weights * mask).sum() / totals.tokens,
        "sampling/importance_sampling_ratio/max": ratio.max(),
    }
    return weights, metrics


def difference(name: str, one: Tensor, other: Tensor, mask: Tensor, totals: Totals) -> Metrics:
    """Compute `NAME/mean` and `NAME/max` of |log-prob difference| per token; all tensors are `(tokens,)`."""
    apart = (one - other).masked_fill(~mask, 0.0).abs()
    return {f"{name}/mean": apart.sum() / totals.tokens, f"{name}/max": apart.max()}


def per_token(values: Tensor, terms: Terms) -> Tensor:
    """A value a sequence `(sequences,)` at each of its tokens `(tokens,)`."""
    return values.index_select(0, terms.sequence)


def sums(values: Tensor, terms: Terms) -> Tensor:
    """Sum of `values` `(tokens,)` over each sequence `(sequences,)`."""
    return torch.zeros_like(terms.advantages, dtype=values.dtype).index_add(0, terms.sequence, values)


def lengths(terms: Terms) -> Tensor:
    """Response tokens of each sequence `(sequences,)`, at least 1."""
    return sums(terms.mask.float(), terms).clamp(min=1.0)


def token_mean(losses: Tensor, terms: Terms, totals: Totals) -> Tensor:
    """Every token of the step counts alike."""
    return losses.sum() / totals.tokens


def sequence_mean(losses: Tensor, terms: Terms, totals: Totals) -> Tensor:
    """Every sequence of the step counts alike, every token alike within it."""
    return (sums(losses, terms) / lengths(terms)).sum() / totals.sequences


def constant_mean(losses: Tensor, terms: Terms, totals: Totals) -> Tensor:
    """Divided by what the step's tokens could at most have been."""
    return losses.sum() / totals.constant


def clipping(ratio: Tensor, terms: Terms, settings: Settings, totals: Totals) -> Metrics:
    """How far the ratio `(tokens,)` went, and the share of tokens where the clip took the gradient away."""
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
    """Metrics of a step from its microbatches': those named `…/max` are maxima, all others add up."""
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
    """Importance weights, KL penalty, mask and aggregation: what all losses share."""
    if terms.importance is not None:
        losses = losses * terms.importance
    if terms.reference_logprobs is not None:
        divergence = kl_k3(terms.logprobs, terms.reference_logprobs).masked_fill(~terms.mask, 0.0)
        losses = losses + settings.kl_coefficient * divergence
        metrics["kl/mean"] = divergence.detach().sum() / totals.tokens
    loss = aggregate(losses.masked_fill(~terms.mask, 0.0), terms, totals)
    metrics["loss"] = loss.detach()
    return LossOutput(loss, metrics)
