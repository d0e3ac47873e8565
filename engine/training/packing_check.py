"""Check whether a model keeps packed sequences apart, with a short run.

Every layer must use the packed attention, and a sequence's hidden states must not depend on its neighbour. A
state-space layer or a convolution sees one long row, so it fails one of the two checks. Log-probs are
compared elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from engine.data.sequence import TokenSequence
from engine.training import attention
from engine.training.packing import lay_out
from engine.training.unsupported import UnsupportedModel

if TYPE_CHECKING:
    from engine.training.policy import PackedCausalLM

FIRSTS = ((0, 1, 0), (1, 1, 2))
SECOND = (2, 0)
# Relative to the largest hidden state, in float32. A real leak is far larger.
LEAK = 1e-4


@torch.no_grad()
def check_packing(network: PackedCausalLM, device: torch.device) -> None:
    """Run two short sequences through the packed path.

    Raises: UnsupportedModel if a layer does not use the packed attention, or cannot.
    """
    config = network.model.config
    name = f"model type {config.model_type!r}"
    if config._attn_implementation != attention.NAME:
        raise UnsupportedModel(f"{name}: transformers cannot replace this family's attention")
    calls: list[str] = []
    try:
        alone, packed = (_second(network, first, device, calls) for first in FIRSTS)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{name}: {error}") from error
    except (TypeError, AttributeError) as error:
        raise UnsupportedModel(
            f"{name}: its forward pass does not accept packed sequences: {error}"
        ) from error
    layers = len(FIRSTS) * config.get_text_config().num_hidden_layers
    if len(calls) < layers:
        raise UnsupportedModel(f"{name}: it has layers without attention, which mix packed sequences")
    if not torch.allclose(alone, packed, rtol=0.0, atol=LEAK * float(alone.abs().max())):
        raise UnsupportedModel(f"{name}: a packed sequence changes with the one before it")


def _second(
    network: PackedCausalLM, first: tuple[int, ...], device: torch.device, calls: list[str]
) -> Tensor:
    """Return hidden states of a sequence that is packed behind `first`.

    They are `(tokens, width)`.
    """
    items = [TokenSequence(np.array(ids, dtype=np.int32), 1, finished=False) for ids in (first, SECOND)]
    return network.hidden(lay_out(items, range(2)).to(device), calls=calls)[len(first) :]
