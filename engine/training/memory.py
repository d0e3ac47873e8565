"""Token budget of a training pass, and recovery if it does not fit.

A profile may set the budget or leave it at 0. With 0, two small passes of different size are measured, and
the remaining device memory is divided by the cost per token.
If a pass runs out of memory, it is repeated with half the budget, once in an arm's training, and a warning is
emitted. The second time, the stage fails with a message that gives the remedy.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from engine.context import StageFailed
from engine.data.sequence import TokenSequence
from engine.machine.ranks import all_min, rank, world
from engine.training.oom import AGAIN, FIRST, Shortage, remedy, too_much
from engine.training.packing import lay_out
from engine.training.policy import Policy

CPU_BUDGET = 16_384
ROUND = 1024
MOST = 65_536
# Share of free memory to plan with. The rest is for fragmentation and uneven batches.
RESERVE = 0.9
# Packed tokens of the measured passes.
PROBES = (2048, 6144)
PROBE_LENGTH = 512

T = TypeVar("T")


class OutOfMemory(RuntimeError):
    """One of several ranks ran out of memory.

    The trainer has to restart; the new trainer reads the reason from disk.
    """


def measure_budget(policy: Policy, share: float = 1.0) -> int:
    """Measure how many packed tokens per microbatch fit into free memory.

    Call it before the optimizer of `policy` has moments. Afterwards no gradients remain. On a CPU the result
    is a fixed 16,384. With several ranks it is what fits the fullest one.
    Args:
        share: fraction of the device's memory to plan with, because another process may still allocate its
            part.
    """
    if policy.device.type != "cuda":
        return CPU_BUDGET
    small, large = (_peak(policy, tokens) for tokens in PROBES)
    per_token = max((large - small) / (PROBES[1] - PROBES[0]), 1.0)
    masters = sum(master.numel() for master in policy.precision.masters.values())
    # AdamW's float32 moments.
    to_come = 2 * 4 * masters
    free_now, whole = torch.cuda.mem_get_info(policy.device)
    free = min(free_now, share * whole - torch.cuda.memory_reserved(policy.device))
    fixed = small - per_token * PROBES[0]
    tokens = (free * RESERVE - to_come - fixed) / per_token
    return all_min(int(min(max(tokens // ROUND, 1) * ROUND, MOST)))


def _peak(policy: Policy, tokens: int) -> int:
    """Return the peak bytes that a pass over `tokens` tokens allocates.

    The tokens are packed.
    """
    ids = np.zeros(PROBE_LENGTH, dtype=np.int32)
    sequences = [TokenSequence(ids, 1, finished=False)] * (tokens // PROBE_LENGTH)
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
    """Packed tokens per microbatch, halved after a pass ran out of memory.

    A single process repeats that pass at once. With several ranks, the rank that ran out leaves the others
    waiting in the middle of FSDP2's gathers. No message can reach them there, and no work can be undone. So
    that rank writes the pass to `root`, durably, and exits, and all ranks exit with it. The supervisor
    restarts the trainer from the last checkpoint. The new trainer reaches the same pass and uses half the
    budget.
    """

    def __init__(
        self, tokens: int, root: Path, stage: str, device: torch.device, warn: Callable[[str], None]
    ) -> None:
        """Read an earlier shortage from the folder of the arm's checkpoints.

        `root` is that folder.
        The callback reports that the budget is or was halved, and why.
        """
        self._whole = tokens
        self._root = root
        self._stage = stage
        self._device = str(device)
        self._warn = warn
        # Step, and index of the pass within it.
        self._pass = (-1, 0)
        self._shortage = Shortage.read(root / FIRST)
        if self._shortage is not None:
            self._report(self._shortage)

    @property
    def tokens(self) -> int:
        """The budget of the current pass, the same on every rank."""
        if self._shortage is None or not self._shortage.covers(*self._pass):
            return self._whole
        return min(self._whole, self._shortage.half)

    def run(self, step: int, work: Callable[[int], T], clear: Callable[[], None]) -> T:
        """Return `work(budget)` for the next pass of `step`.

        If it runs out of memory, call `clear()` and repeat once with half the budget.
        Raises: StageFailed if half is too much as well, and OutOfMemory with several ranks.
        """
        self._pass = (step, self._pass[1] + 1 if step == self._pass[0] else 0)
        return self._attempt(work, clear)

    def _attempt(self, work: Callable[[int], T], clear: Callable[[], None]) -> T:
        try:
            return work(self.tokens)
        except torch.OutOfMemoryError as error:
            self._ran_out(Shortage(*self._pass, rank(), self._device, self.tokens), error)
        # Continue outside the handler, so that the traceback does not keep the failed pass's tensors alive.
        clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self._attempt(work, clear)

    def _ran_out(self, shortage: Shortage, error: torch.OutOfMemoryError) -> None:
        """Record the shortage.

        Return if this process may retry with its new budget.
        """
        was_half = self._shortage is not None and self._shortage.covers(*self._pass)
        if world() > 1:
            shortage.write(self._root / (AGAIN if was_half else FIRST))
            raise OutOfMemory(f"{shortage}; the trainer stops on all ranks") from error
        if was_half:
            raise StageFailed(too_much(shortage, self._stage)) from error
        shortage.write(self._root / FIRST)
        self._shortage = shortage
        self._report(shortage)

    def _report(self, shortage: Shortage) -> None:
        self._warn(
            f"{shortage}; the budget is {shortage.half} from there on. To avoid this, {remedy(self._stage)}"
        )
