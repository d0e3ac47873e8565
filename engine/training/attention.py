"""Packed attention, registered with transformers' AttentionInterface.

On CUDA it uses PyTorch's variable-length flash attention if that can compute the call. Otherwise, and always
on a CPU, it pads sequences to the longest one, inside the attention only. The rest of the model stays packed.
Memory therefore grows with sequences × longest, never with tokens².
Soft caps and sinks need explicit scores, which are computed one sequence at a time.
"""

from __future__ import annotations

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from engine.training import attention_mask as masks
from engine.training.attention_call import Call, asked, attend
from engine.training.packing import Packed
from engine.training.unsupported import UnsupportedModel

NAME = "mathrl_packed"
# The largest head dimension that flash attention supports.
FLASH_DIM = 256

# torch 2.11 accepts fewer key-value heads without a flag. From 2.12 on, the flag is required.
_GROUPED: dict[str, Any] = (
    {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
)


class _Pad(torch.autograd.Function):
    """Copy `(tokens, heads, dim)` into `(slots, heads, dim)`.

    The rest is filled with zeros.
    Slots are distinct, so the inverse is a gather.
    """

    @staticmethod
    def forward(ctx: Any, packed: Tensor, slots: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(slots)
        return packed.new_zeros(size, *packed.shape[1:]).index_copy_(0, slots, packed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slots,) = ctx.saved_tensors
        return grads[0].index_select(0, slots), None, None


class _Unpad(torch.autograd.Function):
    """The inverse of `_Pad`.

    Its gradient is a copy into zeros. The gradient of index_select would add instead.
    """

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
    """Compute attention within each sequence, padded to the longest one.

    Args:
        query: (tokens, heads, dim).
        key: (tokens, key-value heads, dim).
        value: (tokens, key-value heads, value dim).
    Returns: (tokens, heads, value dim).
    """
    count, longest = len(packed.rows), packed.longest
    slots = packed.sequence * longest + packed.position_ids

    def unpack(states: Tensor) -> Tensor:
        padded: Tensor = _Pad.apply(states, slots, count * longest)  # type: ignore[no-untyped-call]
        return padded.view(count, longest, *states.shape[1:]).transpose(1, 2)

    # Padding is on the right, so a causal rule hides it from every real query.
    attended = attend(unpack(query), unpack(key), unpack(value), call)
    flat = attended.transpose(1, 2).reshape(count * longest, query.shape[1], value.shape[2])
    result: Tensor = _Unpad.apply(flat, slots)  # type: ignore[no-untyped-call]
    return result


def flash_attention(
    query: Tensor, key: Tensor, value: Tensor, packed: Packed, scale: float, window: int
) -> Tensor:
    """Compute `padded_attention` with variable-length flash attention.

    It needs CUDA and 16-bit tensors. Shapes are those of `padded_attention`.
    Args:
        scale: factor of the scores q · k.
        window: number of keys that a query sees, including its own.
    """
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
    """Compute attention for transformers.

    It calls this function in every layer.
    Args:
        query: (1, heads, tokens, dim); key and value likewise, with key-value heads.
        packed: the microbatch; transformers passes it through from the model's call.
        calls: if given, receives the class name of each calling layer.
    Returns: (1, tokens, heads, dim), and None in place of attention weights.
    Raises: UnsupportedModel, with the name of the argument, if the call cannot be computed exactly.
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
    """Register packed attention with transformers and return its name.

    The name is the value for `attn_implementation`.
    """
    AttentionInterface.register(NAME, packed_attention)
    masks.register(NAME)
    return NAME
