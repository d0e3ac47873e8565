"""Scoring: the log-probs that a model assigns to given text.

Tasks that rank answers or measure perplexity use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """A text with tokens to score from `start` on.

    Each is given all tokens before it.
    Attributes:
        token_ids: (tokens,).
        start: 1 <= start < tokens.
    """

    token_ids: NDArray[np.int32]
    start: int


@dataclass(frozen=True, slots=True)
class Score:
    """The result of request number `place`.

    Attributes:
        place: index of the request.
        logprob: sum of the log-probs.
        greedy: True if every token was the likeliest.
    """

    place: int
    logprob: float
    greedy: bool


@dataclass(slots=True)
class Reading:
    """A text that is read once, and the requests that it answers.

    The requests differ only in their last token.
    Attributes:
        token_ids: (tokens - 1,), the ids that all requests share.
        start: index of the first scored token.
        places: the index of each request in the caller's list.
        last_ids: the last token id of each request.
    """

    token_ids: NDArray[np.int32]
    start: int
    places: list[int] = field(default_factory=list)
    last_ids: list[int] = field(default_factory=list)

    def targets(self, choice: int) -> NDArray[np.int64]:
        """Return the scored ids of the request with index `choice` in `places`.

        Returns: (tokens - start,).
        """
        return np.append(self.token_ids[self.start :], self.last_ids[choice]).astype(np.int64)


def readings(requests: Sequence[ScoringRequest]) -> list[Reading]:
    """Return the texts to read, in order of their first request.

    Requests that score only the last token share a reading: the choices A to D of one question are read once.
    """
    found: dict[tuple[bytes, int], Reading] = {}
    for place, request in enumerate(requests):
        ids, one = request.token_ids[:-1], request.start == len(request.token_ids) - 1
        reading = found.setdefault((ids.tobytes(), -1 if one else place), Reading(ids, request.start))
        reading.places.append(place)
        reading.last_ids.append(int(request.token_ids[-1]))
    return list(found.values())
