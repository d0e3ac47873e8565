"""How many packed tokens fit a forward and backward pass, and what happens when they do not.

A profile may name the budget or leave it to be found (0): two small passes of different size are measured, and what
remains of the device's memory is shared out at the cost of a token. A step that runs out all the same is done again
with half the budget, once in a run, and says so; a second time it fails with what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from engine.learning.packing import Sequence, lay_out
from engine.learning.policy import Policy
from engine.learning.ranks import least, world

CPU_BUDGET = 16_384
ROUND = 1024
MOST = 65_536
RESERVE = 0.9  # share of free memory to plan with; the rest is for fragmentation and uneven batches
PROBES = (2048, 6144)  # packed tokens of the measured passes
PROBE_LENGTH = 512

T = TypeVar("T")


class OutOfMemory(RuntimeError):
    """Half the token budget did not fit either; the message says what to change."""


def found_budget(policy: Policy) -> int:
    """Packed tokens a microbatch, from free memory, for a policy whose optimizer has no moments yet.

    On a CPU a fixed 16,384; of several ranks what fits the fullest. Leaves no gradients behind.
    """
    if policy.device.type != "cuda":
        return CPU_BUDGET
    small, large = (_peak(policy, tokens) for tokens in PROBES)
    per_token = max((large - small) / (PROBES[1] - PROBES[0]), 1.0)
    masters = sum(master.numel() for master in policy.precision.masters.values())
    to_come = 2 * 4 * masters  # AdamW's float32 moments
    free, _ = torch.cuda.mem_get_info(policy.device)
    fixed = small - per_token * PROBES[0]
    tokens = (free * RESERVE - to_come - fixed) / per_token
    return least(int(min(max(tokens // ROUND, 1) * ROUND, MOST)))


def _peak(policy: Policy, tokens: int) -> int:
    """Bytes that a pass over `tokens` packed tokens needs beyond what is allocated before it."""
    ids = np.zeros(PROBE_LENGTH, dtype=np.int32)
    sequences = [Sequence(ids, 1, finished=False)] * (tokens // PROBE_LENGTH)
    packed = lay_out(sequences, range(len(sequences))).to(policy.device)
    torch.cuda.synchronize(policy.device)
    before = torch.cuda.memory_allocated(policy.device)
    torch.cuda.reset_peak_memory_stats(policy.device)
    logprobs, _ = policy.logprobs(packed)
    torch.autograd.backward(logprobs.sum())
    torch.cuda.synchronize(policy.device)
    peak = torch.cuda.max_memory_allocated(policy.device)
    policy.clear_gradients()
    torch.cuda.empty_cache()
    return peak - before


class TokenBudget:
    """Packed tokens a microbatch, halved once when a step runs out of memory.

    Not under several ranks: one that turns back in the middle of a step would leave the others waiting for it.
    """

    def __init__(self, tokens: int, say: Callable[[str], None]) -> None:
        self.tokens = tokens
        self._say = say
        self._halved = False

    def run(self, step: Callable[[int], T], clear: Callable[[], None]) -> T:
        """`step(budget)`; where that runs out of memory, `clear()` and once more with half, from then on."""
        try:
            return step(self.tokens)
        except torch.OutOfMemoryError as error:
            if self._halved or world() > 1:
                raise OutOfMemory(self._advice()) from error
        # Outside the handler, so that the failed pass's tensors are no longer held by the traceback.
        self._halved = True
        self._say(f"out of memory with {self.tokens} packed tokens; going on with {self.tokens // 2}")
        self.tokens //= 2
        clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self.run(step, clear)

    def _advice(self) -> str:
        return (
            f"out of memory with {self.tokens} packed tokens{', halved already' if self._halved else ''}; "
            "lower tokens_per_microbatch or set gradient_checkpointing = true"
        )
