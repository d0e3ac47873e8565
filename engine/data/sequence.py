"""What a policy is trained on: a prompt and its response, as one row of token ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Sequence:
    """A prompt and its response. `token_ids` ends with the end-of-sequence id exactly when `finished`."""

    token_ids: NDArray[np.int32]  # (tokens,)
    prompt_length: int
    finished: bool

    @property
    def response_length(self) -> int:
        """Tokens of the response, its end-of-sequence id included."""
        return len(self.token_ids) - self.prompt_length
