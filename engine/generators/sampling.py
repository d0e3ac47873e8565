"""Draw tokens with the inverse distribution, and return their log-probs.

Each token uses one uniform number. A completion's numbers come from its own counter-based stream. So token t
of a completion depends on its seed and on t, never on the rest of the batch.
Source: Philox, Salmon et al. 2011.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# Draws of a stream that are made at a time.
BLOCK = 64


class Uniforms:
    """A stream of uniform numbers in [0, 1) for each row of a batch.

    Row r gets the stream of `seeds[r]`.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._streams = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]
        self._block = np.empty((len(seeds), 0))
        self._column = 0

    def next(self) -> Tensor:
        """Return the next number of every row `(rows,)`, float64."""
        if self._column == self._block.shape[1]:
            self._block = np.stack([stream.random(BLOCK) for stream in self._streams])
            self._column = 0
        self._column += 1
        return torch.from_numpy(self._block[:, self._column - 1].copy())

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the rows with these indices, in this order; drop the others."""
        self._streams = [self._streams[row] for row in rows]
        self._block = self._block[list(rows)]


def greedy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the likeliest ids `(rows,)` and their log-probs at temperature 1.

    Args:
        logits: (rows, vocabulary).
    """
    best, ids = logits.max(-1)
    return ids, best - logits.logsumexp(-1)


def sample(logits: Tensor, temperature: float, top_p: float, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Draw ids `(rows,)`, and return them with their log-probs.

    The id is the first one with a cumulative mass above the row's uniform number.
    Args:
        logits: (rows, vocabulary), float32.
        uniforms: (rows,) in [0, 1).
    """
    scaled = logits / temperature
    peak = scaled.amax(-1, keepdim=True)
    mass = (scaled - peak).exp_()
    if top_p < 1.0:
        mass = mass.masked_fill_(~nucleus(mass, top_p), 0.0)
    cumulative = mass.cumsum(-1)
    total = cumulative[:, -1:]
    # A number that rounds up to the total would point past the last id.
    below = torch.nextafter(total, torch.zeros_like(total))
    aim = torch.minimum(uniforms.to(total).unsqueeze(1) * total, below)
    ids = torch.searchsorted(cumulative, aim, right=True)
    logprobs = scaled.gather(1, ids) - peak - mass.sum(-1, keepdim=True).log()
    return ids.squeeze(1), logprobs.squeeze(1)


def nucleus(mass: Tensor, top_p: float) -> Tensor:
    """Mark the fewest likeliest ids that hold `top_p` of each row's mass.

    Args:
        mass: (rows, vocabulary), not normalised.
    Source: Holtzman et al. 2020.
    """
    ordered, order = mass.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    kept = before < top_p * ordered.sum(-1, keepdim=True)
    return torch.zeros_like(kept).scatter_(-1, order, kept)
