"""Records of passes that ran out of memory, next to an arm's checkpoints.

    ROOT/out_of_memory.json         the pass that ran out with the whole token budget: from it on half is used
    ROOT/out_of_memory_again.json   one of several ranks ran out with half of it: the next start fails, once

Every start reads them. A pass is identified by its position in the training. So each process that reaches it
again, from any checkpoint, uses the same budget as before. A resumed run therefore has the numbers of an
uninterrupted one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from engine.context import StageFailed
from engine.machine.ranks import barrier, broadcast, rank, world
from store.atomic import replace_text
from store.private import make_folder

FIRST = "out_of_memory.json"
AGAIN = "out_of_memory_again.json"


@dataclass(frozen=True, slots=True)
class Shortage:
    """A pass over a step's microbatches that did not fit.

    Attributes:
        step: counted from 0.
        place: of the pass within the step: old log-probs, then one for each optimizer step.
        rank: on which it did not fit.
        device: on which it did not fit.
        tokens: packed tokens per microbatch, the budget of the pass.
    """

    step: int
    place: int
    rank: int
    device: str
    tokens: int

    @property
    def half(self) -> int:
        """Packed tokens per microbatch from this pass on."""
        return self.tokens // 2

    def covers(self, step: int, place: int) -> bool:
        """Return True if the given pass is this one or a later one."""
        return (step, place) >= (self.step, self.place)

    def __str__(self) -> str:
        place = f"rank {self.rank} ({self.device})" if world() > 1 else self.device
        return f"{place} ran out of memory in step {self.step + 1} with {self.tokens} packed tokens per microbatch"

    def write(self, path: Path) -> None:
        """Write the record durably and atomically.

        If two ranks ran out in the same pass, the later write remains.
        """
        make_folder(path.parent)
        replace_text(path, json.dumps(asdict(self)), writer=f"-{rank()}")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the record in `path`; None if the file does not exist.

        Every rank must call it, and gets what rank 0 read.
        """
        return broadcast(cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None)


def remedy(stage: str) -> str:
    """Return the advice for a stage that runs out of memory."""
    # Its microbatches have no setting.
    if stage == "pretrain":
        return "lower pretrain.batch_size"
    return f"lower {stage}.tokens_per_microbatch or set {stage}.gradient_checkpointing = true"


def too_much(shortage: Shortage, stage: str) -> str:
    """Return the error message for a pass that did not fit in half the budget."""
    return f"{shortage}, already half of the budget; in a new run, {remedy(stage)}"


def fail_if_half_was_too_much(root: Path, stage: str) -> None:
    """Fail if the last start stopped because half the budget was too much.

    The record is removed: memory that another program used may be free when the run resumes.
    Raises: StageFailed, on every rank.
    """
    again = Shortage.read(root / AGAIN)
    if again is None:
        return
    if rank() == 0:
        (root / AGAIN).unlink()
    barrier()
    raise StageFailed(too_much(again, stage))
