"""What an arm's training knows of its passes that ran out of memory: facts beside its checkpoints, read by every start.

    ROOT/out_of_memory.json         the pass that ran out with the whole token budget: from it on half is used
    ROOT/out_of_memory_again.json   one of several ranks ran out with half of it: the next start fails with that, once

A pass is named by its place in the training, so that whoever comes to it again, from whichever checkpoint, does it
with the budget that it had, and a resumed run has the numbers of one that was not interrupted.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from engine.context import StageFailed
from engine.learning.checkpoint import sync
from engine.ranks import barrier, rank, told, world
from store.private import make_folder, write_text

FIRST = "out_of_memory.json"
AGAIN = "out_of_memory_again.json"


@dataclass(frozen=True, slots=True)
class Shortage:
    """A pass over a step's microbatches that did not fit, and on which rank and device it did not."""

    step: int  # counted from 0
    place: int  # of the pass among the step's: old log-probs, then one for each optimizer step
    rank: int
    device: str
    tokens: int  # packed, a microbatch: the budget of the pass

    @property
    def half(self) -> int:
        """Packed tokens a microbatch from this pass on."""
        return self.tokens // 2

    def covers(self, step: int, place: int) -> bool:
        """Whether that pass is this one or comes after it."""
        return (step, place) >= (self.step, self.place)

    def __str__(self) -> str:
        who = f"rank {self.rank} ({self.device})" if world() > 1 else self.device
        return (
            f"{who} ran out of memory in step {self.step + 1} with {self.tokens} packed tokens a microbatch"
        )

    def write(self, path: Path) -> None:
        """Makes it a fact, durably and at once; of two ranks that ran out in the same pass, the later one's."""
        make_folder(path.parent)
        draft = path.with_name(f".{path.name}-{rank()}")
        write_text(draft, json.dumps(asdict(self)))
        sync(draft)
        draft.replace(path)
        sync(path.parent)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The fact in `path` as rank 0 sees it, the same on every rank; None where there is none. Every rank asks."""
        return told(cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None)


def remedy(stage: str) -> str:
    """What a person can do about a stage that runs out of memory."""
    if stage == "pretrain":  # whose microbatches are no setting
        return "lower pretrain.batch_size"
    return f"lower {stage}.tokens_per_microbatch or set {stage}.gradient_checkpointing = true"


def too_much(shortage: Shortage, stage: str) -> str:
    """What is said where half the budget did not fit either."""
    return f"{shortage}, half of the budget already; in a new run, {remedy(stage)}"


def fail_if_half_was_too_much(root: Path, stage: str) -> None:
    """StageFailed, on every rank alike, where the last start ended because a rank ran out with half the budget too.

    The fact is gone then: memory that somebody else had taken may be free when the run is resumed.
    """
    again = Shortage.read(root / AGAIN)
    if again is None:
        return
    if rank() == 0:
        (root / AGAIN).unlink()
    barrier()
    raise StageFailed(too_much(again, stage))
