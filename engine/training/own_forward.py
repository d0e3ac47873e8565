"""Log-probs of a model's own forward, the reference for the packed path.

    sequences ─▶ own_logprobs(model)     transformers' forward, eager attention, one sequence at a time
              └▶ packed_logprobs(policy) the packed forward that training uses

Both return one array per sequence, so a caller compares them element by element.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from engine.data.sequence import TokenSequence
from engine.training.packing import pack

if TYPE_CHECKING:
    from engine.training.policy import Policy


@contextmanager
def own_path(model: PreTrainedModel) -> Iterator[None]:
    """Run `model` in eval mode with eager attention inside the context.

    Its attention and its modes are restored afterwards.
    """
    attention = model.config._attn_implementation
    modes = {module: module.training for module in model.modules()}
    model.set_attn_implementation("eager")
    nn.Module.eval(model)
    try:
        yield
    finally:
        model.set_attn_implementation(attention)
        for module, training in modes.items():
            module.training = training


@torch.no_grad()
def own_logprobs(model: PreTrainedModel, sequences: Sequence[TokenSequence]) -> list[NDArray[np.float32]]:
    """Compute each response token's log-prob by the model's own forward.

    That is `model(input_ids=…).logits` at temperature 1.
    The forward pass runs in the dtype of the model's weights. The log-softmax runs in float32. Call it before
    the weights are sharded over ranks.
    Returns: one (response tokens,) array for each sequence, in order.
    """
    found = []
    with own_path(model):
        for item in sequences:
            ids = torch.from_numpy(item.token_ids).to(model.device, torch.long)
            logits = model(input_ids=ids[None], use_cache=False).logits[0].float()
            first = item.prompt_length - 1
            logprobs = logits[first:-1].log_softmax(-1).gather(-1, ids[first + 1 :, None])
            found.append(logprobs[:, 0].cpu().numpy())
    return found


@torch.no_grad()
def packed_logprobs(
    policy: Policy, sequences: Sequence[TokenSequence], budget: int = 16_384
) -> list[NDArray[np.float32]]:
    """Compute the same log-probs with the policy's packed forward.

    Args:
        budget: maximum tokens per microbatch.
    Returns: one (response tokens,) array for each sequence, in order.
    """
    found = [np.empty(0, dtype=np.float32)] * len(sequences)
    for packed in pack(sequences, budget):
        logprobs, _ = policy.logprobs(packed.to(policy.device))
        trained = logprobs[packed.mask.to(policy.device)].cpu().numpy()
        lengths = [sequences[row].response_length for row in packed.rows.tolist()]
        parts = np.split(trained, np.cumsum(lengths)[:-1])
        for row, part in zip(packed.rows.tolist(), parts, strict=True):
            found[row] = part
    return found
