"""Log-probs, entropy and cross-entropy from hidden states, by chunks.

    logits = cap · tanh(scale · (hidden · weightᵀ + bias) / cap)

The logits of a whole microbatch never exist: 16,384 tokens × 151,936 words are 5 GB in bf16. Each chunk is
computed, read once and freed. Backward of the log-probs computes a chunk again, because its gradient depends
on the loss. The cross-entropy computes its gradient in forward. Arithmetic on logits is in float32, whatever
their dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

# Elements of one chunk of logits: 1 GiB in bf16 and 64 MiB in fp32. Large chunks keep the products efficient.
_CHUNK_ELEMENTS = {"cuda": 2**29, "cpu": 2**24}


@dataclass(frozen=True, slots=True)
class Form:
    """What a model family does around the output embedding.

    A value of None omits the step.
    Attributes:
        hidden_scale: factor of the hidden states before the head.
        scale: factor of the logits.
        cap: soft cap of the logits: cap · tanh(logits / cap).
    """

    hidden_scale: float | None = None
    scale: float | None = None
    cap: float | None = None


PLAIN = Form()


@dataclass(frozen=True, slots=True)
class Head:
    """A model's head.

    Attributes:
        weight: (vocabulary, width).
        bias: (vocabulary,) or None.
        form: what the family does before and after the product.
    """

    weight: Tensor
    bias: Tensor | None = None
    form: Form = PLAIN

    def scaled(self, hidden: Tensor) -> Tensor:
        """Return `hidden` (rows, width) in the weight's dtype, scaled if needed."""
        hidden = hidden.to(self.weight.dtype)
        return hidden if self.form.hidden_scale is None else hidden * self.form.hidden_scale

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute float32 logits of all hidden states at once.

        `(rows, width)` gives `(rows, vocabulary)`.
        """
        raw = nn.functional.linear(self.scaled(hidden), self.weight, self.bias)
        return shaped(raw, self.form.scale, self.form.cap)


def shaped(raw: Tensor, scale: float | None, cap: float | None) -> Tensor:
    """Apply a family's scale and soft cap to raw logits, in float32.

    Args:
        raw: (rows, vocabulary) output of the product.
        scale: factor; None for 1.
        cap: soft cap; None for none.
    """
    logits = raw.float()
    if scale is not None:
        logits = logits * scale
    if cap is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits


def target_logprobs(
    raw: Tensor,
    targets: Tensor,
    inverse_temperature: float,
    scale: float | None = None,
    cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the log-prob of each row's target.

    The distribution is softmax(logits / temperature).
    Args:
        raw: (rows, vocabulary) output of the product.
        targets: (rows,) token ids.
    Returns: log-probs and log-normalisers, each (rows,).
    """
    scaled = shaped(raw, scale, cap) * inverse_temperature
    normaliser = torch.logsumexp(scaled, dim=-1)
    return scaled.gather(-1, targets[:, None])[:, 0] - normaliser, normaliser


def row_statistics(
    raw: Tensor,
    targets: Tensor,
    inverse_temperature: float,
    scale: float | None = None,
    cap: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute log-prob, entropy and log-normaliser, each `(rows,)`.

    Arguments are those of `target_logprobs`.
    """
    logprob, normaliser = target_logprobs(raw, targets, inverse_temperature, scale, cap)
    scaled = shaped(raw, scale, cap) * inverse_temperature
    probabilities = torch.exp(scaled - normaliser[:, None])
    return logprob, normaliser - (probabilities * scaled).sum(-1), normaliser


def logits_gradient(
    raw: Tensor,
    targets: Tensor,
    normaliser: Tensor,
    grad: Tensor,
    inverse_temperature: float,
    scale: float | None = None,
    cap: float | None = None,
) -> Tensor:
    """Compute the gradient of the targets' log-probs at the raw logits.

    It has their dtype.
    Args:
        raw: (rows, vocabulary).
        targets: (rows,) token ids.
        normaliser: (rows,), from `target_logprobs`.
        grad: (rows,) weight of each log-prob.
    Returns: (rows, vocabulary).
    """
    logits = shaped(raw, scale, cap)
    probabilities = torch.exp(logits * inverse_temperature - normaliser[:, None])
    words = torch.arange(raw.shape[-1], device=raw.device)
    chosen = (words[None, :] == targets[:, None]).float()
    slope = (chosen - probabilities) * (grad * inverse_temperature)[:, None]
    if cap is not None:
        slope = slope * (1.0 - (logits / cap).square())
    if scale is not None:
        slope = slope * scale
    return slope.to(raw.dtype)


@cache
def _fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` into one or two kernels.

    Without this, CUDA would write each float32 intermediate to memory.
    """
    return torch.compile(function, dynamic=True)


def _on(device: torch.device, function: Callable[..., Any]) -> Callable[..., Any]:
    return _fused(function) if device.type == "cuda" else function


def _chunks(rows: int, vocabulary: int, device: torch.device) -> Iterator[slice]:
    """Return slices of nearly equal size.

    A small last one would waste the GPU.
    """
    most = max(1, _CHUNK_ELEMENTS[device.type] // vocabulary)
    count = -(-rows // most)
    bounds = [rows * part // count for part in range(count + 1)] if count else [0]
    return (slice(start, end) for start, end in pairwise(bounds))


def _raw(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return hidden @ weight.t() if bias is None else torch.addmm(bias, hidden, weight.t())


class _Sums:
    """The gradients of hidden states, weight and bias, summed chunk by chunk."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight
        self.hidden_grad, self.weight_grad = torch.empty_like(hidden), torch.zeros_like(weight)
        # A sum over thousands of rows needs float32 even if the bias is in bf16.
        self.bias_grad = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)

    def add(self, slope: Tensor, hidden: Tensor, part: slice) -> None:
        torch.mm(slope, self.weight, out=self.hidden_grad[part])
        self.weight_grad.addmm_(slope.t(), hidden[part])
        if self.bias_grad is not None:
            self.bias_grad += slope.sum(0, dtype=torch.float32)

    def all(self) -> tuple[Tensor, Tensor, Tensor | None]:
        bias_grad = None if self.bias_grad is None else self.bias_grad.to(self.weight.dtype)
        return self.hidden_grad, self.weight_grad, bias_grad


class _LinearLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        *form: float | None,
    ) -> tuple[Tensor, Tensor]:
        statistics = _on(hidden.device, row_statistics)
        logprobs, entropy, normaliser = (hidden.new_empty(len(hidden), dtype=torch.float32) for _ in range(3))
        for part in _chunks(len(hidden), len(weight), hidden.device):
            raw = _raw(hidden[part], weight, bias)
            logprobs[part], entropy[part], normaliser[part] = statistics(raw, targets[part], *form)
        ctx.save_for_backward(hidden, weight, bias, targets, normaliser)
        ctx.form = form
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normaliser = ctx.saved_tensors
        gradient = _on(hidden.device, logits_gradient)
        sums = _Sums(hidden, weight, bias)
        for part in _chunks(len(hidden), len(weight), hidden.device):
            raw = _raw(hidden[part], weight, bias)
            slope = gradient(raw, targets[part], normaliser[part], grads[0][part], *ctx.form)
            sums.add(slope, hidden, part)
        return (*sums.all(), None, *(None for _ in ctx.form))


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        *form: float | None,
    ) -> Tensor:
        logprob, gradient = _on(hidden.device, target_logprobs), _on(hidden.device, logits_gradient)
        sums = _Sums(hidden, weight, bias) if any(ctx.needs_input_grad) else None
        minus_one = hidden.new_full((len(hidden),), -1.0, dtype=torch.float32)
        total = hidden.new_zeros((), dtype=torch.float32)
        for part in _chunks(len(hidden), len(weight), hidden.device):
            raw = _raw(hidden[part], weight, bias)
            logprobs, normaliser = logprob(raw, targets[part], *form)
            total -= logprobs.sum()
            if sums is not None:
                sums.add(gradient(raw, targets[part], normaliser, minus_one[part], *form), hidden, part)
        if sums is not None:
            ctx.save_for_backward(*sums.all())
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        found = (None if grad is None else grad * grads[0] for grad in ctx.saved_tensors)
        return (*found, None, None, None, None)


def logprobs(hidden: Tensor, head: Head, targets: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Compute the log-prob of each target, and the entropy.

    The distribution is softmax(logits / temperature).
    The log-probs carry gradients for hidden, weight and bias. The entropy carries none.
    Args:
        hidden: (rows, width).
        targets: (rows,) token ids.
    Returns: log-probs and entropies, each float32 (rows,).
    """
    apply: Callable[..., tuple[Tensor, Tensor]] = _LinearLogprobs.apply
    form = head.form
    return apply(
        head.scaled(hidden), head.weight, head.bias, targets, 1.0 / temperature, form.scale, form.cap
    )


def cross_entropy(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
    """Compute the sum over rows of −log p(target), with gradients.

    Args:
        hidden: (rows, width).
        targets: (rows,) token ids.
    Returns: float32 scalar, in nats.
    """
    apply: Callable[..., Tensor] = _LinearCrossEntropy.apply
    form = head.form
    return apply(head.scaled(hidden), head.weight, head.bias, targets, 1.0, form.scale, form.cap)
