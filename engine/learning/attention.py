"""Attention over packed sequences, given to transformers through its AttentionInterface.

On CUDA it is PyTorch's variable-length flash attention if that can compute the call. Otherwise, and always on a CPU,
sequences are padded to the longest one inside the attention alone (everything else of the model stays packed): memory
grows with sequences × longest, never with tokens². Soft caps and sinks need explicit scores, one sequence at a time.
"""

from __future__ import annotations

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from engine.learning import attention_mask as masks
from engine.learning.attention_call import Call, asked, attend
from engine.learning.packing import Packed
from engine.learning.unsupported import UnsupportedModel

NAME = "mathrl_packed"
FLASH_DIM = 256  # the largest head that flash attention takes

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


def padded_attention(query: Tensor, key: Tensor, value: Tensor, packed: Packed, call: Call) -> Tensor:
    """Compute attention within each sequence over `(sequences, heads, longest, dim)`.

    Shapes: query `(tokens, heads, dim)`, key and value `(tokens, key-value heads, dim)`; returns `(tokens, heads,
    value dim)`.
    """
    count, longest = len(packed.rows), packed.longest
    slots = packed.sequence * longest + packed.position_ids

    def unpack(states: Tensor) -> Tensor:
        padded: Tensor = _Pad.apply(states, slots, count * longest)  # type: ignore[no-untyped-call]
        return padded.view(count, longest, *states.shape[1:]).transpose(1, 2)

    # Padding stands to the right, so a causal rule keeps every real query off it.
    attended = attend(unpack(query), unpack(key), unpack(value), call)
    flat = attended.transpose(1, 2).reshape(count * longest, query.shape[1], value.shape[2])
    result: Tensor = _Unpad.apply(flat, slots)  # type: ignore[no-untyped-call]
    return result


def flash_attention(
    query: Tensor, key: Tensor, value: Tensor, packed: Packed, scale: float, window: int
) -> Tensor:
    """The same by variable-length flash attention (CUDA, 16-bit); a query sees `window` keys, itself included."""
    bounds, longest = packed.cu_seqlens, packed.longest
    earlier = -1 if window >= longest else window - 1
    attended = varlen_attn(
        query, key, value, bounds, bounds, longest, longest, scale=scale, window_size=(earlier, 0), **_GROUPED
    )
    return cast(Tensor, attended)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: object,
    *,
    packed: Packed | None = None,
    calls: list[str] | None = None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: query, key and value are `(1, heads, tokens, dim)`; returns `(1, tokens, heads, dim)`.

    `calls`, if given, receives the name of each layer that calls.

    Raises: UnsupportedModel for what it cannot compute exactly, by name.
    """
    if packed is None:
        raise UnsupportedModel(f"{type(module).__name__}: it does not receive the model's keyword arguments")
    call = asked(module, query, attention_mask, scaling, others)
    if calls is not None:
        calls.append(type(module).__name__)
    states = (query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1))
    window = call.rule.window(packed.longest, query.device) if _flash_takes(query, value, call) else None
    if window is None:
        return padded_attention(*states, packed, call)[None], None
    return flash_attention(*states, packed, call.scale, window)[None], None


def _flash_takes(query: Tensor, value: Tensor, call: Call) -> bool:
    dim = query.shape[-1]
    fits = dim == value.shape[-1] and dim % 8 == 0 and dim <= FLASH_DIM
    return query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and call.fused and fits


def register() -> str:
    """Make packed attention known to transformers; return the name to ask for as `attn_implementation`."""
    AttentionInterface.register(NAME, packed_attention)
    masks.register(NAME)
    return NAME
