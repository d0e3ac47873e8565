"""The rows of each step: seeded epochs laid end to end.

They are a pure function of seed and step. Nothing is stored between steps, so a resumed run takes the same
rows as an uninterrupted one. No row is lost at the end of an epoch, because a batch may span two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.protocol.messages import derived_seed


def epoch_order(rows: int, epoch: int, *seed: int | str) -> NDArray[np.int64]:
    """Return the permutation `(rows,)` of one epoch."""
    return np.random.default_rng(derived_seed("epoch", epoch, *seed)).permutation(rows)


def batch_rows(rows: int, step: int, size: int, *seed: int | str) -> list[int]:
    """Return the row indices of step `step` in endless shuffled epochs.

    Steps are counted from 0, and each takes `size` rows. The epochs follow each other without a gap, so a
    step may cover the end of one and the start of the next.
    """
    taken: list[int] = []
    position = step * size
    while len(taken) < size:
        epoch, offset = divmod(position + len(taken), rows)
        order = epoch_order(rows, epoch, *seed)
        taken += order[offset : offset + size - len(taken)].tolist()
    return taken
