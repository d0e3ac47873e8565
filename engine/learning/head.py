"""From hidden states to log-probs, entropy and cross-entropy, a chunk of rows at a time.

The logits of a whole microbatch (16,384 tokens × 151,936 words are 5 GB in bf16) never exist: each chunk's are made,
read once and dropped. Log-probs make them again in backward, since their gradient depends on the loss; cross-entropy
knows its gradient and takes it in forward. Arithmetic on logits is in float32 whatever their dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

# Elements of one chunk of logits. Large chunks keep the products efficient; these are 1 GiB in bf16 and 64 MiB in fp32.
_CHUNK_ELEMENTS = {"cuda": 2**29, "cpu": 2**24}


def target_logprobs(logits: Tensor, targets: Tensor, inverse_temperature: float) -> tuple[Tensor, Tensor]:
    """Log-prob of each row's target under softmax(logits / temperature), and the log-normaliser; each `(rows,)`."""
    scaled = logits.float() * inverse_temperature
    normaliser = torch.logsumexp(scaled, dim=-1)
    return scaled.gather(-1, targets[:, None])[:, 0] - normaliser, normaliser


def row_statistics(
    logits: Tensor, targets: Tensor, inverse_temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As `target_logprobs`, with each row's entropy between the two."""
    logprob, normaliser = target_logprobs(logits, targets, inverse_temperature)
    scaled = logits.float() * inverse_temperature
    probabilities = torch.exp(scaled - normaliser[:, None])
    return logprob, normaliser - (probabilities * scaled).sum(-1), normaliser


def logits_gradient(
    logits: Tensor, targets: Tensor, normaliser: Tensor, grad: Tensor, inverse_temperature: float
) -> Tensor:
    """Gradient `(rows, vocabulary)` of the targets' log-probs, weighted by `grad` `(rows,)`, in the logits' dtype."""
    probabilities = torch.exp(logits.float() * inverse_temperature - normaliser[:, None])
    words = torch.arange(logits.shape[-1], device=logits.device)
    chosen = (words[None, :] == targets[:, None]).float()
    return ((chosen - probabilities) * (grad * inverse_temperature)[:, None]).to(logits.dtype)


@cache
def _fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as one or two kernels. On CUDA the plain form would write each float32 intermediate to memory."""
    return torch.compile(function, dynamic=True)


def _on(device: torch.device, function: Callable[..., Any]) -> Callable[..., Any]:
    return _fused(function) if device.type == "cuda" else function


def _chunks(rows: int, vocabulary: int, device: torch.device) -> Iterator[slice]:
    """Slices of nearly equal size: an almost empty last product would waste the device."""
    most = max(1, _CHUNK_ELEMENTS[device.type] // vocabulary)
    count = -(-rows // most)
    bounds = [rows * part // count for part in range(count + 1)] if count else [0]
    return (slice(start, end) for start, end in pairwise(bounds))


class _LinearLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, inverse_temperature: float
    ) -> tuple[Tensor, Tensor]:
        statistics = _on(hidden.device, row_statistics)
        logprobs, entropy, normaliser = (hidden.new_empty(len(hidden), dtype=torch.float32) for _ in range(3))
        for part in _chunks(len(hidden), len(weight), hidden.device):
            logits = hidden[part] @ weight.t()
            logprobs[part], entropy[part], normaliser[part] = statistics(
                logits, targets[part], inverse_temperature
            )
        ctx.save_for_backward(hidden, weight, targets, normaliser)
        ctx.inverse_temperature = inverse_temperature
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden, weight, targets, normaliser = ctx.saved_tensors
        gradient = _on(hidden.device, logits_gradient)
        hidden_grad, weight_grad = torch.empty_like(hidden), torch.zeros_like(weight)
        for part in _chunks(len(hidden), len(weight), hidden.device):
            logits = hidden[part] @ weight.t()
            slope = gradient(logits, targets[part], normaliser[part], grads[0][part], ctx.inverse_temperature)
            torch.mm(slope, weight, out=hidden_grad[part])
            weight_grad.addmm_(slope.t(), hidden[part])
        return hidden_grad, weight_grad, None, None


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        logprob, gradient = _on(hidden.device, target_logprobs), _on(hidden.device, logits_gradient)
        wanted = any(ctx.needs_input_grad)
        hidden_grad, weight_grad = torch.empty_like(hidden), torch.zeros_like(weight) if wanted else None
        minus_one = hidden.new_full((len(hidden),), -1.0, dtype=torch.float32)
        total = hidden.new_zeros((), dtype=torch.float32)
        for part in _chunks(len(hidden), len(weight), hidden.device):
            logits = hidden[part] @ weight.t()
            logprobs, normaliser = logprob(logits, targets[part], 1.0)
            total -= logprobs.sum()
            if weight_grad is not None:
                slope = gradient(logits, targets[part], normaliser, minus_one[part], 1.0)
                torch.mm(slope, weight, out=hidden_grad[part])
                weight_grad.addmm_(slope.t(), hidden[part])
        if weight_grad is not None:
            ctx.save_for_backward(hidden_grad, weight_grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_grad, weight_grad = ctx.saved_tensors
        return hidden_grad * grads[0], weight_grad * grads[0], None


def logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-prob of each target under softmax(hidden · weightᵀ / temperature), and that distribution's entropy.

    Shapes: hidden `(rows, width)`, weight `(vocabulary, width)`, targets `(rows,)`; gives two float32 `(rows,)`. The
    log-probs carry gradients, the entropy does not.
    """
    apply: Callable[..., tuple[Tensor, Tensor]] = _LinearLogprobs.apply
    return apply(hidden, weight, targets, 1.0 / temperature)


def cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Sum over rows of −log p(target), float32 scalar, with gradients. Shapes as in `logprobs`."""
    apply: Callable[..., Tensor] = _LinearCrossEntropy.apply
    return apply(hidden, weight, targets)
