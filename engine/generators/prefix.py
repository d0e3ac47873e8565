"""Attention of many completions over few prompts.

    prompts ─▶ Prefill: keys and values of each prompt, computed once
                  │
                  ▼
    Decode: one token of every completion per pass, over its prompt's memory and its own

The group of a prompt shares its memory. Both classes are called by the attention function that is registered
with transformers as `shared_prefix`. The model's own forward pass gives it query, key and value.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from engine.training import attention_mask
from engine.training.attention_call import Call, asked, attend, capped, weights
from engine.training.attention_mask import MaskRule
from engine.training.unsupported import UnsupportedModel

ATTENTION = "shared_prefix"
# Initial capacity in completion tokens; it doubles as needed.
FIRST_CAPACITY = 16


class Memory(Protocol):
    """Stores and returns keys and values during a forward pass."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, call: Call) -> Tensor:
        """Store the new tokens' keys and values; return their attention output.

        Args:
            query: (rows, heads, tokens, head_dim).
            key: (rows, key/value heads, tokens, head_dim); `value` likewise.
        Returns: (rows, tokens, heads, head_dim).
        """


def shared_prefix(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: object,
    *,
    memory: Memory | None = None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Compute attention for transformers' attention modules.

    Queries are `(rows, heads, tokens, head_dim)`.
    Raises: UnsupportedModel, with the name of the argument, if the call cannot be computed exactly.
    """
    layer = getattr(module, "layer_idx", None)
    if memory is None or layer is None:
        lacking = "the model's keyword arguments" if memory is None else "a layer number"
        raise UnsupportedModel(f"{type(module).__name__}: it does not receive {lacking}")
    call = asked(module, query, attention_mask, scaling, others)
    return memory.attend(layer, query, key, value, call), None


def register() -> str:
    """Register the function with transformers and return its name.

    The name is the value for `attn_implementation`.
    """
    AttentionInterface.register(ATTENTION, shared_prefix)
    attention_mask.register(ATTENTION)
    return ATTENTION


class Prefill:
    """Runs right-padded prompts, and stores their keys and values together.

    Right padding needs no mask: a token attends only to earlier ones, and the output of a pad token is never
    read.
    """

    def __init__(self, prompts: int, longest: int) -> None:
        self._shape = (prompts, longest)
        self._rows = torch.empty(0, dtype=torch.long)
        # Keys and values, each (prompts, kv_heads, longest, head_dim).
        self.layers: list[tuple[Tensor, Tensor]] = []

    def begin(self, rows: Tensor) -> None:
        """Select the prompts of the next forward pass.

        Args:
            rows: (batch,) indices of the prompts.
        """
        self._rows = rows

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, call: Call) -> Tensor:
        """Store the prompts' keys and values, and return their attention output.

        See `Memory.attend`.
        """
        if layer == len(self.layers):
            prompts, longest = self._shape
            room = (prompts, key.shape[1], longest)
            self.layers.append((key.new_zeros(*room, key.shape[3]), value.new_zeros(*room, value.shape[3])))
        keys, values = self.layers[layer]
        keys[self._rows, :, : key.shape[2]] = key
        values[self._rows, :, : value.shape[2]] = value
        return whole_rows(query, key, value, call)


class Nothing:
    """Runs whole texts in right-padded rows and stores nothing.

    `layers` lists the layers that were called.
    """

    def __init__(self) -> None:
        self.layers: list[int] = []

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, call: Call) -> Tensor:
        """Record the layer, and return the attention output of whole texts.

        See `Memory.attend`.
        """
        self.layers.append(layer)
        return whole_rows(query, key, value, call)


class Decode:
    """Runs one new token of every row per pass.

    Row r continues prompt `prompt_of[r]`. All rows have the same number of tokens.
    """

    def __init__(self, prefill: Prefill, lengths: Tensor, prompt_of: Tensor) -> None:
        longest = prefill.layers[0][0].shape[2]
        self._prompts = prefill.layers
        # (prompts, longest), true for padding.
        self._padding = torch.arange(longest, device=lengths.device) >= lengths.unsqueeze(1)
        # Keys and values, each (rows, kv_heads, capacity, head_dim).
        self._own: list[tuple[Tensor, Tensor]] = []
        # Tokens stored per row.
        self._tokens = 0
        # Prompt tokens, (prompts,).
        self._lengths = lengths
        # Masks of the current pass.
        self._hidden: dict[MaskRule, Tensor] = {}
        self._seat(prompt_of)

    def begin(self) -> None:
        """Prepare for a forward pass with one token of every row."""
        if self._own and self._tokens == self._own[0][0].shape[2]:
            self._own = [(_doubled(keys), _doubled(values)) for keys, values in self._own]
        self._tokens += 1
        self._hidden = {}

    def keep(self, rows: Tensor) -> None:
        """Drop every row except `rows`, and prompts that no row continues.

        Args:
            rows: (kept rows,) indices of the present rows, in their new order.
        """
        self._own = [(self._kept(keys, rows), self._kept(values, rows)) for keys, values in self._own]
        used, prompt_of = torch.unique(self._prompt_of[rows], return_inverse=True)
        if len(used) < len(self._padding):
            self._prompts = [(keys[used], values[used]) for keys, values in self._prompts]
            self._padding, self._lengths = self._padding[used], self._lengths[used]
        self._seat(prompt_of)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, call: Call) -> Tensor:
        """Attend from each row's new token to its prompt and its completion.

        The new token's key and value are stored. See `Memory.attend`.
        """
        rows, heads, _, head_dim = query.shape
        kv_heads = key.shape[1]
        if layer == len(self._own):
            room = (rows, kv_heads, FIRST_CAPACITY)
            self._own.append((key.new_empty(*room, head_dim), value.new_empty(*room, value.shape[3])))
        own_keys, own_values = self._own[layer]
        own_keys[:, :, self._tokens - 1] = key[:, :, 0]
        own_values[:, :, self._tokens - 1] = value[:, :, 0]
        prompt_keys, prompt_values = self._prompts[layer]
        # A key-value head serves heads / kv_heads queries of the token; they form the rows of its matrix.
        grouped = query.reshape(rows, kv_heads, heads // kv_heads, head_dim) * call.scale
        on_prompt = capped(self._seated(grouped) @ prompt_keys.transpose(2, 3), call.softcap)
        on_prompt = on_prompt.masked_fill_(self._padding[:, None, None], float("-inf"))
        on_own = capped(grouped @ own_keys[:, :, : self._tokens].transpose(2, 3), call.softcap)
        scores = torch.cat([self._unseated(on_prompt, grouped.shape), on_own], -1)
        if not call.rule.plain:
            scores = scores.masked_fill_(self._hidden_by(call.rule), float("-inf"))
        shares = weights(scores.view(rows, heads, 1, -1), call.sinks).to(query.dtype).view(scores.shape)
        to_prompt, to_own = shares.tensor_split([prompt_keys.shape[2]], -1)
        out = self._unseated(self._seated(to_prompt) @ prompt_values, grouped.shape)
        out += to_own @ own_values[:, :, : self._tokens]
        return out.reshape(rows, 1, heads, value.shape[3])

    def _hidden_by(self, rule: MaskRule) -> Tensor:
        """Return True for keys that `rule` hides from each row's new token.

        Returns: (rows, 1, 1, longest + tokens).
        """
        if rule not in self._hidden:
            lengths = self._lengths[self._prompt_of][:, None]
            on_prompt = torch.arange(self._padding.shape[1], device=lengths.device).expand(len(lengths), -1)
            on_own = lengths + torch.arange(self._tokens, device=lengths.device)
            places = torch.cat([on_prompt, on_own], 1)
            newest = lengths + self._tokens - 1
            self._hidden[rule] = ~rule.allowed(newest, places)[:, None, None]
        return self._hidden[rule]

    def _kept(self, memory: Tensor, rows: Tensor) -> Tensor:
        """Copy the chosen rows of `memory` with the same capacity.

        Empty positions are not copied.
        """
        kept = memory.new_empty(len(rows), *memory.shape[1:])
        kept[:, :, : self._tokens] = memory[:, :, : self._tokens][rows]
        return kept

    def _seat(self, prompt_of: Tensor) -> None:
        """Assign every row a seat, so that a prompt's rows form one matrix."""
        self._prompt_of = prompt_of
        order = prompt_of.argsort(stable=True)
        counts = prompt_of.bincount(minlength=len(self._padding))
        first = counts.cumsum(0) - counts
        place = torch.empty_like(prompt_of)
        place[order] = torch.arange(len(prompt_of), device=prompt_of.device) - first[prompt_of[order]]
        self._seats = int(counts.max())
        self._seat_of = prompt_of * self._seats + place
        every = torch.arange(counts.numel() * self._seats, device=prompt_of.device)
        # True if no seat is empty and rows are in the order of their seats.
        self._full = torch.equal(self._seat_of, every)

    def _seated(self, of_rows: Tensor) -> Tensor:
        """Arrange one tensor by prompt and seat instead of by row.

        `(rows, kv_heads, queries, n)` becomes `(prompts, kv_heads, seats × queries, n)`.
        Empty seats hold zeros.
        """
        _, kv_heads, queries, size = of_rows.shape
        prompts = len(self._padding)
        seated = of_rows
        if not self._full:
            seated = of_rows.new_zeros(prompts * self._seats, kv_heads, queries, size)
            seated[self._seat_of] = of_rows
        seated = seated.view(prompts, self._seats, kv_heads, queries, size).transpose(1, 2)
        return seated.reshape(prompts, kv_heads, self._seats * queries, size)

    def _unseated(self, seated: Tensor, shape: torch.Size) -> Tensor:
        """Invert `_seated`; `shape` is that of the rows' queries."""
        _, kv_heads, queries, _ = shape
        prompts, size = len(self._padding), seated.shape[3]
        seated = seated.view(prompts, kv_heads, self._seats, queries, size).transpose(1, 2)
        rows = seated.reshape(prompts * self._seats, kv_heads, queries, size)
        return rows if self._full else rows[self._seat_of]


def whole_rows(query: Tensor, key: Tensor, value: Tensor, call: Call) -> Tensor:
    """Attend from each token to itself and earlier tokens.

    Returns: `(rows, tokens, heads, head_dim)`.
    """
    return attend(query, key, value, call).transpose(1, 2)


def _doubled(memory: Tensor) -> Tensor:
    return torch.cat([memory, torch.empty_like(memory)], 2)
