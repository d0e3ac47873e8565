"""How many packed tokens fit a forward and backward pass, and what happens when they do not.

A profile may name the budget or leave it to be found (0): two small passes of different size are measured, and what
remains of the device's memory is shared out at the cost of a token. A pass that runs out all the same is done again
with half the budget, once in an arm's training, and that is said; a second time the stage fails with what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from engine.context import StageFailed
from engine.data.sequence import Sequence
from engine.learning.packing import lay_out
from engine.learning.policy import Policy
from engine.learning.shortage import AGAIN, FIRST, Shortage, remedy, too_much
from engine.ranks import least, rank, world

CPU_BUDGET = 16_384
ROUND = 1024
MOST = 65_536
RESERVE = 0.9  # share of free memory to plan with; the rest is for fragmentation and uneven batches
PROBES = (2048, 6144)  # packed tokens of the measured passes
PROBE_LENGTH = 512

T = TypeVar("T")


class OutOfMemory(RuntimeError):
    """One of several ranks ran out of memory: the trainer has to start again, and knows why when it does."""


def found_budget(policy: Policy, share: float = 1.0) -> int:
    """Packed tokens a microbatch, from free memory, for a policy whose optimizer has no moments yet.

    No more than `share` of the device's memory is planned with: a neighbour may not have taken his part yet. On a CPU a
    fixed 16,384; of several ranks what fits the fullest. Leaves no gradients behind.
    """
    if policy.device.type != "cuda":
        return CPU_BUDGET
    small, large = (_peak(policy, tokens) for tokens in PROBES)
    per_token = max((large - small) / (PROBES[1] - PROBES[0]), 1.0)
    masters = sum(master.numel() for master in policy.precision.masters.values())
    to_come = 2 * 4 * masters  # AdamW's float32 moments
    free_now, whole = torch.cuda.mem_get_info(policy.device)
    free = min(free_now, share * whole - torch.cuda.memory_reserved(policy.device))
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
    """Packed tokens a microbatch: `tokens`, and half from the pass on that ran out of memory.

    One process does that pass again at once. Of several ranks, the one that ran out leaves the others waiting for it in
    the middle of FSDP2's gathers, where nothing can be said to them and nothing be taken back. So it notes the pass in
    `root`, durably, and ends; with it all end; and the trainer that the supervisor starts again from the last
    checkpoint comes to the same pass with half.
    """

    def __init__(
        self, tokens: int, root: Path, stage: str, device: torch.device, say: Callable[[str], None]
    ) -> None:
        """`root` has the arm's checkpoints; `say` tells a person that the budget is or was halved, and why."""
        self._whole = tokens
        self._root = root
        self._stage = stage
        self._device = str(device)
        self._say = say
        self._pass = (-1, 0)  # step, place in it
        self._shortage = Shortage.read(root / FIRST)
        if self._shortage is not None:
            self._tell(self._shortage)

    @property
    def tokens(self) -> int:
        """The budget of the pass that is under way, the same on every rank."""
        if self._shortage is None or not self._shortage.covers(*self._pass):
            return self._whole
        return min(self._whole, self._shortage.half)

    def run(self, step: int, work: Callable[[int], T], clear: Callable[[], None]) -> T:
        """`work(budget)`, the next pass of `step`; where that runs out of memory, `clear()` and once more with half.

        Raises StageFailed where half is too much too, and OutOfMemory under several ranks.
        """
        self._pass = (step, self._pass[1] + 1 if step == self._pass[0] else 0)
        return self._attempt(work, clear)

    def _attempt(self, work: Callable[[int], T], clear: Callable[[], None]) -> T:
        try:
            return work(self.tokens)
        except torch.OutOfMemoryError as error:
            self._ran_out(Shortage(*self._pass, rank(), self._device, self.tokens), error)
        # Outside the handler, so that the failed pass's tensors are no longer held by the traceback.
        clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self._attempt(work, clear)

    def _ran_out(self, shortage: Shortage, error: torch.OutOfMemoryError) -> None:
        """Returns where this process may try again, with the budget that it has then."""
        was_half = self._shortage is not None and self._shortage.covers(*self._pass)
        if world() > 1:
            shortage.write(self._root / (AGAIN if was_half else FIRST))
            raise OutOfMemory(f"{shortage}; the trainer ends on all ranks") from error
        if was_half:
            raise StageFailed(too_much(shortage, self._stage)) from error
        shortage.write(self._root / FIRST)
        self._shortage = shortage
        self._tell(shortage)

    def _tell(self, shortage: Shortage) -> None:
        self._say(
            f"{shortage}; from there on it is {shortage.half}. To be spared that, {remedy(self._stage)}"
        )
