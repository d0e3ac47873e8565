"""The interface of a generator.

weights by reference, requests ─▶ generator ─▶ completions, as each one finishes
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.generators.scoring import Score, ScoringRequest
from engine.protocol.messages import Finish, Sampling, WeightRef


class JobRefused(Exception):
    """The job cannot be done, now or later.

    The message gives the reason in one line. The generator can take other jobs.
    """


class WeightsRefused(JobRefused):
    """The weights do not fit the model (names, shapes) or are not whole.

    Part of them may have been loaded; see `Generator.load`.
    """


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One completion to generate.

    Its random draws depend only on `seed`, not on other requests in the batch.
    Attributes:
        prompt: Prompt.index.
        sample: index of the completion within its group.
        token_ids: (prompt tokens,).
        seed: seed of the completion's own random stream.
    """

    prompt: int
    sample: int
    token_ids: NDArray[np.int32]
    seed: int


@dataclass(frozen=True, slots=True)
class Generated:
    """One finished completion.

    `logprobs` are those of the distribution that was sampled: at the job's temperature, renormalised over
    what top-p kept. Greedy sampling (temperature 0) reports those of temperature 1. If the completion ended
    by itself, `token_ids` ends with an end-of-sequence id. A stop string also gives finish 'stop', and its
    ids stay in `token_ids`.
    Attributes:
        token_ids: (completion tokens,).
        logprobs: (completion tokens,).
    """

    prompt: int
    sample: int
    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    finish: Finish


class TokenDecoder(Protocol):
    """The part of a Hugging Face tokenizer that generation needs."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = ...) -> str:
        """Return the text of `token_ids`, a sequence of one completion."""


class Generator(Protocol):
    """What every generator can do.

    Its attributes are valid after the first `load`.
    Attributes:
        tokenizer: decodes completions.
        vocabulary: token ids are below this.
        longest: maximum tokens of prompt and completion together.
        positions: maximum tokens of the model; `longest` is at most this.
    """

    tokenizer: TokenDecoder
    vocabulary: int
    longest: int
    positions: int

    def load(self, weights: WeightRef) -> None:
        """Use `weights` from the next completion on.

        Caches of older weights are dropped.
        Raises: WeightsRefused; no version then counts as loaded, so call `load` again before the next job.
        """

    def generate(self, waiting: deque[GenerationRequest], sampling: Sampling) -> Iterator[list[Generated]]:
        """Generate the requests in `waiting`, from the left, as capacity allows.

        The caller may append to `waiting` between steps; `generate` ends when nothing waits or runs. The
        caller may also close the iterator early, which discards running requests.
        Yields: the completions that finished in each step.
        """

    def score(self, requests: Sequence[ScoringRequest]) -> Iterator[list[Score]]:
        """Compute log-probs of given texts at temperature 1.

        A text holds at most `longest` + 1 tokens, and fewer than `positions`. The caller may close the
        iterator early.
        Yields: the scores that each step completed, in any order.
        """

    def close(self) -> None:
        """Release memory and processes."""


def text_of(tokenizer: TokenDecoder, token_ids: NDArray[np.int32], stop: tuple[str, ...]) -> str:
    """Decode `token_ids` (tokens,), and cut the text before a stop string.

    The first occurrence of any of `stop` counts. Special tokens are left out.
    """
    text = tokenizer.decode(token_ids.tolist(), skip_special_tokens=True)
    found = [place for string in stop if (place := text.find(string)) >= 0]
    return text[: min(found)] if found else text
