"""The attention mask of a layer as a rule over positions.

transformers builds every mask (causal, sliding window, chunks) as a function of query and key positions.
Packed and cached layouts cannot use its tensors, because their positions differ. So the mask functions
registered here keep the rule itself. Attention evaluates it on each sequence's own positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

from engine.training.unsupported import UnsupportedModel

ROWS_AT_ONCE = 1024

# Arguments: batch, head, query and key positions, as tensors that broadcast.
MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
CAUSAL = cast(MaskFunction, causal_mask_function)


class MaskRule:
    """The keys that a query may see.

    All layers of one forward pass that share a mask share one object.
    """

    def __init__(self, function: MaskFunction) -> None:
        self._function = function
        self._windows: dict[int, int | None] = {}
        self._squares: dict[int, Tensor] = {}

    @property
    def plain(self) -> bool:
        """True if the rule is known to be causal without further restrictions."""
        return self._function is CAUSAL

    def allowed(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Evaluate the rule for query and key positions.

        Args:
            queries: int64 positions.
            keys: int64 positions; their shape must broadcast with `queries`.
        Returns: bool, True if the query may see the key.
        """
        first = torch.zeros((), dtype=torch.long, device=queries.device)
        return self._function(first, first, queries, keys)

    def window(self, longest: int, device: torch.device) -> int | None:
        """Return how many keys a query sees, including its own.

        Args:
            longest: maximum sequence length in tokens.
        Returns: number of keys. `longest` means that a query sees every earlier token. None means that no
            single window describes the rule.
        Raises: UnsupportedModel if a query sees later tokens.
        """
        if self.plain:
            return longest
        if longest not in self._windows:
            self._windows[longest] = self._measured(longest, device)
        return self._windows[longest]

    def square(self, longest: int, device: torch.device) -> Tensor:
        """Return the whole mask, bool `(longest, longest)`: queries by keys.

        It is kept for the next call with the same length.
        """
        if longest not in self._squares:
            places = torch.arange(longest, device=device)
            self._squares[longest] = self.allowed(places[:, None], places[None, :]).expand(longest, longest)
        return self._squares[longest]

    def _measured(self, longest: int, device: torch.device) -> int | None:
        keys = torch.arange(longest, device=device)[None, :]
        last = torch.full((1, 1), longest - 1, device=device)
        window = int(self.allowed(last, keys).sum())
        single = True
        for start in range(0, longest, ROWS_AT_ONCE):
            queries = torch.arange(start, min(start + ROWS_AT_ONCE, longest), device=device)[:, None]
            found = self.allowed(queries, keys)
            if bool((found & (keys > queries)).any()):
                raise UnsupportedModel("attention to later tokens is not supported; choose a causal model")
            single = single and bool((found == ((keys <= queries) & (keys > queries - window))).all())
        return window if single else None


def rule_mask(*, mask_function: MaskFunction, use_vmap: bool = False, **_: Any) -> MaskRule:
    """Return the rule of a mask that transformers is about to build.

    Raises: UnsupportedModel if the model adds its own mask function, which may depend on the batch's layout.
    """
    if use_vmap:
        raise UnsupportedModel("the model adds an attention mask of its own, which is not supported")
    return MaskRule(mask_function)


def register(name: str) -> None:
    """Pass MaskRule objects to the attention function called `name`."""
    AttentionMaskInterface.register(name, rule_mask)
