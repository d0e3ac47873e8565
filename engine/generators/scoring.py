"""Scoring: how likely a model finds given text, for tasks that rank answers or measure perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """A text whose tokens from `start` on are scored, each given all before it; 1 <= start < tokens."""

    token_ids: NDArray[np.int32]  # (tokens,)
    start: int


@dataclass(frozen=True, slots=True)
class Score:
    """What became of request number `place`: the sum of the log-probs, and whether every token was the likeliest."""

    place: int
    logprob: float
    greedy: bool


@dataclass(slots=True)
class Reading:
    """A text that is read once, and the requests that it answers, which differ in their last token alone."""

    token_ids: NDArray[np.int32]  # (tokens - 1,)
    start: int
    places: list[int] = field(default_factory=list)
    last_ids: list[int] = field(default_factory=list)

    def targets(self, choice: int) -> NDArray[np.int64]:
        """The ids that request number `choice` of this reading scores `(tokens - start,)`."""
        return np.append(self.token_ids[self.start :], self.last_ids[choice]).astype(np.int64)


def readings(requests: Sequence[ScoringRequest]) -> list[Reading]:
    """The texts to read, in order of their first request.

    Requests that score the last token alone share a reading: the choices A to D of one question are read once.
    """
    found: dict[tuple[bytes, int], Reading] = {}
    for place, request in enumerate(requests):
        ids, one = request.token_ids[:-1], request.start == len(request.token_ids) - 1
        reading = found.setdefault((ids.tobytes(), -1 if one else place), Reading(ids, request.start))
        reading.places.append(place)
        reading.last_ids.append(int(request.token_ids[-1]))
    return list(found.values())
