"""Attention over packed sequences, given to transformers through its AttentionInterface.

On CUDA it is PyTorch's own variable-length flash attention. On a CPU, which has none, sequences are padded to the
longest one inside the attention alone (everything else of the model stays packed) and go through causal SDPA: memory
grows with sequences × longest, never with tokens².
"""

from __future__ import annotations

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from engine.learning.packing import Packed

NAME = "mathrl_packed"

# torch 2.11 takes fewer key-value heads as they come; from 2.12 on one has to say so.
_GROUPED: dict[str, Any] = (
    {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
)


class _Pad(torch.autograd.Function):
    """`(tokens, heads, dim)` to `(slots, heads, dim)`, zeros between. Slots are distinct: the inverse is a gather."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, slots: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(slots)
        return packed.new_zeros(size, *packed.shape[1:]).index_copy_(0, slots, packed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slots,) = ctx.saved_tensors
        return grads[0].index_select(0, slots), None, None


class _Unpad(torch.autograd.Function):
    """The inverse of `_Pad`; its gradient is a copy into zeros, where index_select's own would add."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.size = len(padded)
        return padded.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (slots,) = ctx.saved_tensors
        grad = grads[0]
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, slots, grad), None


def padded_attention(query: Tensor, key: Tensor, value: Tensor, packed: Packed, scaling: float) -> Tensor:
    """Causal attention within each sequence, by SDPA over `(sequences, heads, longest, dim)`.

    Shapes: query `(tokens, heads, dim)`, key and value `(tokens, key-value heads, dim)`; gives query's shape.
    """
    count, longest = len(packed.rows), packed.longest
    slots = packed.sequence * longest + packed.position_ids

    def unpack(states: Tensor) -> Tensor:
        padded: Tensor = _Pad.apply(states, slots, count * longest)  # type: ignore[no-untyped-call]
        return padded.view(count, longest, *states.shape[1:]).transpose(1, 2)

    # Padding stands to the right, so the causal mask alone keeps every real query off it.
    attended = nn.functional.scaled_dot_product_attention(
        unpack(query), unpack(key), unpack(value), is_causal=True, scale=scaling, enable_gqa=True
    )
    flat = attended.transpose(1, 2).reshape(count * longest, *query.shape[1:])
    result: Tensor = _Unpad.apply(flat, slots)  # type: ignore[no-untyped-call]
    return result


def flash_attention(query: Tensor, key: Tensor, value: Tensor, packed: Packed, scaling: float) -> Tensor:
    """The same by variable-length flash attention (CUDA, 16-bit)."""
    bounds, longest = packed.cu_seqlens, packed.longest
    attended = varlen_attn(
        query, key, value, bounds, bounds, longest, longest, scale=scaling, window_size=(-1, 0), **_GROUPED
    )
    return cast(Tensor, attended)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: Packed,
    scaling: float,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: query, key and value are `(1, heads, tokens, dim)`; gives `(1, tokens, heads, dim)`."""
    if sliding_window is not None and sliding_window < packed.longest:
        raise ValueError(
            f"{type(module).__name__}: sliding-window attention is not supported over packed sequences"
        )
    flash = query.is_cuda and query.dtype in (torch.bfloat16, torch.float16)
    attend = flash_attention if flash else padded_attention
    states = (query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1))
    return attend(*states, packed, scaling)[None], None


def register() -> str:
    """Makes packed attention known to transformers; gives the name to ask for as `attn_implementation`."""
    AttentionInterface.register(NAME, packed_attention)
    return NAME
