"""Arguments of an attention call: read them, and reject unknown ones.

`asked` converts the arguments that transformers passes into a Call. `attend` computes the Call over
right-padded rows, with the same arithmetic as transformers' eager attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from engine.training.attention_mask import CAUSAL, MaskRule
from engine.training.unsupported import UnsupportedModel

# Arguments without effect here. A mask rule replaces `sliding_window`, as in eager attention. Positions are
# already part of query and key.
NEUTRAL = frozenset({"sliding_window", "position_ids", "cache_position"})


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments of the attention of one layer, masked by `rule`.

    scores = softcap · tanh(q · k · scale / softcap)
    Attributes:
        scale: factor of q · k.
        softcap: None for scores without a soft cap.
        sinks: (heads,) scores of a key without a value, which only take part in the softmax; None for a model
            without sinks.
    """

    rule: MaskRule
    scale: float
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def fused(self) -> bool:
        """True if scaled dot-product attention can compute the call."""
        return self.softcap is None and self.sinks is None


def asked(
    module: nn.Module, query: Tensor, mask: object, scaling: float | None, others: dict[str, Any]
) -> Call:
    """Read the arguments of an attention call.

    Raises: UnsupportedModel if the mask is not a rule, or if an unsupported argument is set (the message
        names it).
    """
    layer = type(module).__name__
    softcap, sinks = others.pop("softcap", None), others.pop("s_aux", None)
    if others.pop("is_causal", None) is False:
        raise UnsupportedModel(f"{layer}: attention that is not causal is not supported")
    unknown = [name for name, value in others.items() if name not in NEUTRAL and not _is_neutral(name, value)]
    if unknown:
        raise UnsupportedModel(f"{layer}: attention argument {unknown[0]!r} is not supported")
    if mask is None and getattr(module, "is_causal", False):
        mask = MaskRule(CAUSAL)
    if not isinstance(mask, MaskRule):
        raise UnsupportedModel(f"{layer}: it builds an attention mask of its own, which is not supported")
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    return Call(mask, scale, softcap, sinks)


def _is_neutral(name: str, value: object) -> bool:
    return value is None or value is False or (name == "dropout" and value == 0.0)


def attend(query: Tensor, key: Tensor, value: Tensor, call: Call) -> Tensor:
    """Compute attention over rows that begin at position 0.

    Positions after the end of a row are never read.
    Args:
        query: (rows, heads, longest, dim).
        key: (rows, key-value heads, longest, dim).
        value: (rows, key-value heads, longest, value dim).
    Returns: (rows, heads, longest, value dim).
    """
    longest = query.shape[2]
    seen = call.rule.window(longest, query.device)
    mask = None if seen == longest else call.rule.square(longest, query.device)
    if call.fused:
        return scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None,
            scale=call.scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    if mask is None:
        mask = call.rule.square(longest, query.device)
    rows = []
    for row in range(len(query)):
        states = (query[row], key[row], value[row], mask, call)
        # Scores take longest² numbers per head. So only one row's scores exist at a time, and none are kept
        # for backward.
        rows.append(checkpoint(_explicit, *states, use_reentrant=False, preserve_rng_state=False))
    return torch.stack(rows)


def _explicit(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, call: Call) -> Tensor:
    """Compute attention of one row with explicit scores.

    Each tensor is `(heads, tokens, dim)`.
    """
    groups = query.shape[0] // key.shape[0]
    key, value = key.repeat_interleave(groups, 0), value.repeat_interleave(groups, 0)
    scores = capped(query @ key.transpose(1, 2) * call.scale, call.softcap)
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return weights(scores, call.sinks).to(value.dtype) @ value


def capped(scores: Tensor, softcap: float | None) -> Tensor:
    """Return softcap · tanh(scores / softcap), elementwise.

    `softcap` None returns `scores` unchanged.
    """
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def weights(scores: Tensor, sinks: Tensor | None) -> Tensor:
    """Compute the softmax over the keys and each head's sink, in float32.

    Args:
        scores: (…, heads, queries, keys).
        sinks: (heads,) or None.
    Returns: (…, heads, queries, keys), without the sink's own column.
    """
    if sinks is None:
        return scores.softmax(-1, dtype=torch.float32)
    column = sinks.view(-1, 1, 1).expand(*scores.shape[:-1], 1).to(scores.dtype)
    return torch.cat([scores, column], -1).softmax(-1, dtype=torch.float32)[..., :-1]
