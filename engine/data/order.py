"""Which rows a step takes: seeded epochs laid end to end, a pure function of seed and step.

Because nothing is remembered between steps, a resumed run takes exactly the rows that it would have taken, and no
row is lost at the end of an epoch: a batch may span two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.messages import derived_seed


def epoch_order(rows: int, epoch: int, *seed: int | str) -> NDArray[np.int64]:
    """A permutation `(rows,)` of one epoch."""
    return np.random.default_rng(derived_seed("epoch", epoch, *seed)).permutation(rows)


def batch_rows(rows: int, step: int, size: int, *seed: int | str) -> list[int]:
    """The `size` rows of step `step` (counted from 0) in the endless sequence of shuffled epochs."""
    taken: list[int] = []
    position = step * size
    while len(taken) < size:
        epoch, offset = divmod(position + len(taken), rows)
        order = epoch_order(rows, epoch, *seed)
        taken += order[offset : offset + size - len(taken)].tolist()
    return taken
