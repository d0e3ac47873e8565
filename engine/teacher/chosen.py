"""Choose the questions that get a worked solution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.data.rows import DataRow
from engine.protocol.messages import derived_seed


def chosen(rows: Sequence[DataRow], limit: int, seed: int) -> list[DataRow]:
    """Return all rows (`limit` 0), or `limit` of them by seed, in their order."""
    if not limit or limit >= len(rows):
        return list(rows)
    order = np.random.default_rng(derived_seed("traces", seed)).permutation(len(rows))
    return [rows[place] for place in sorted(order[:limit])]
