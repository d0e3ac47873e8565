"""Training data of a policy: prompt and response as one row of token ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """A prompt and its response.

    Attributes:
        token_ids: (tokens,); ends with the end-of-sequence id exactly if `finished`.
        prompt_length: tokens of the prompt.
        finished: the response ended by itself.
    """

    token_ids: NDArray[np.int32]
    prompt_length: int
    finished: bool

    @property
    def response_length(self) -> int:
        """Tokens of the response, including its end-of-sequence id."""
        return len(self.token_ids) - self.prompt_length
