"""The interface of a generator: weights by reference, requests in, completions out as each one finishes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.generators.scoring import Score, ScoringRequest
from engine.messages import Finish, Sampling, WeightRef


class JobRefused(Exception):
    """This job cannot be done, now or later; one line says why. The generator is as it was before."""


class WeightsRefused(JobRefused):
    """The weights do not fit the model (names, shapes) or are not whole; the old ones keep serving."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One completion to make. Its draws follow from `seed` alone, whatever else is generated beside it."""

    prompt: int  # Prompt.index
    sample: int
    token_ids: NDArray[np.int32]  # (prompt tokens,)
    seed: int


@dataclass(frozen=True, slots=True)
class Generated:
    """One finished completion; `token_ids` ends with an end-of-sequence id where it ended by itself.

    `logprobs` are of the distribution that was drawn from: at the job's temperature, renormalised over what top-p
    kept. Greedy (temperature 0) reports those of temperature 1. A stop string also finishes with 'stop', and leaves
    the ids that spell it in `token_ids`.
    """

    prompt: int
    sample: int
    token_ids: NDArray[np.int32]  # (completion tokens,)
    logprobs: NDArray[np.float32]  # (completion tokens,)
    finish: Finish


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that generation needs."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = ...) -> str: ...


class Generator(Protocol):
    """What every generator can do. Its attributes hold from the first `load` on."""

    tokenizer: Tokenizer
    vocabulary: int  # token ids are below this
    longest: int  # prompt and completion together, tokens
    positions: int  # of the model; `longest` is at most this

    def load(self, weights: WeightRef) -> None:
        """Serves `weights` from the next completion on, with no cache of older ones; WeightsRefused keeps the old."""

    def generate(self, waiting: deque[GenerationRequest], sampling: Sampling) -> Iterator[list[Generated]]:
        """Takes requests from the left of `waiting` as there is room; gives what has finished after each step.

        The caller may append to `waiting` between steps (`generate` ends when nothing waits or runs) and may close
        the iterator early, which drops what is under way.
        """

    def score(self, requests: Sequence[ScoringRequest]) -> Iterator[list[Score]]:
        """The log-probs, at temperature 1, of given texts: after each step those that are known, in any order.

        A text holds at most `longest` + 1 tokens, and fewer than `positions`. The caller may close the iterator early.
        """

    def close(self) -> None:
        """Gives memory and processes back."""


def text_of(tokenizer: Tokenizer, token_ids: NDArray[np.int32], stop: tuple[str, ...]) -> str:
    """The completion as text: no special tokens, cut before the first stop string."""
    text = tokenizer.decode(token_ids.tolist(), skip_special_tokens=True)
    found = [place for string in stop if (place := text.find(string)) >= 0]
    return text[: min(found)] if found else text
