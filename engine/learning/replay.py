"""Recorded rollouts: everything that one step trained on, in one file a step, to train again without a generator.

Ragged arrays (ids, log-probs) lie end to end with their lengths beside them, in NumPy's .npz form. A file is written
under a temporary name and renamed, so that a reader sees a whole step or none.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from engine.data.recorded import COUNTS_FROM_ZERO, recorded_path, step_path
from engine.data.sequence import Sequence
from engine.learning.packing import BLANK
from engine.ranks import by_rank_zero
from store.private import make_folder, opener

DAMAGE = (  # what reading a step's file raises that is cut short, changed or no such file
    OSError,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
    BadZipFile,
    zlib.error,
)

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Rollouts:
    """The completions of one step (N: the N-th update), in training order; all lists are as long as `sequences`."""

    step: int
    version: int  # of the weights that sampled them
    ex_ids: list[str]
    sequences: list[Sequence]
    logprobs: list[NDArray[np.float32]]  # the sampler's, (response tokens,) each
    rewards: NDArray[np.float64]  # (completions,)
    advantages: NDArray[np.float64]  # (completions,)
    group_size: int  # completions of one question, which stand together


def with_blank(rollouts: Rollouts) -> Rollouts:
    """`rollouts` and one last row without a response, for a rank that has nothing else to train on."""
    return replace(
        rollouts,
        ex_ids=[*rollouts.ex_ids, ""],
        sequences=[*rollouts.sequences, BLANK],
        logprobs=[*rollouts.logprobs, np.empty(0, np.float32)],
        rewards=np.append(rollouts.rewards, 0.0),
        advantages=np.append(rollouts.advantages, 0.0),
    )


@by_rank_zero
def record(folder: Path, rollouts: Rollouts) -> None:
    """Writes one step's rollouts; a step that is recorded again (after a resume) replaces the old file."""
    make_folder(folder)
    final = step_path(folder, rollouts.step)
    draft = final.with_name(f".{final.name}")
    with open(draft, "wb", opener=opener) as file:
        np.savez_compressed(
            file,
            step=rollouts.step,
            version=rollouts.version,
            ex_ids=np.array(rollouts.ex_ids, dtype=np.str_),
            token_ids=np.concatenate([item.token_ids for item in rollouts.sequences]).astype(np.int32),
            lengths=np.array([len(item.token_ids) for item in rollouts.sequences]),
            prompt_lengths=np.array([item.prompt_length for item in rollouts.sequences]),
            finished=np.array([item.finished for item in rollouts.sequences]),
            logprobs=np.concatenate(rollouts.logprobs).astype(np.float32),
            rewards=rollouts.rewards,
            advantages=rollouts.advantages,
            group_size=rollouts.group_size,
        )
    draft.replace(final)


def read(folder: Path, step: int) -> Rollouts:
    """Return the rollouts of `step`. Raises FileNotFoundError if it was not recorded, one of DAMAGE for a bad file."""
    path = recorded_path(folder, step)
    with np.load(path, allow_pickle=False) as file:
        lengths, prompts = file["lengths"], file["prompt_lengths"]
        token_ids = _split(file["token_ids"], lengths)
        columns = zip(token_ids, prompts.tolist(), file["finished"].tolist(), strict=True)
        return Rollouts(
            step=int(file["step"]) + path.name.startswith(COUNTS_FROM_ZERO),
            version=int(file["version"]),
            ex_ids=file["ex_ids"].tolist(),
            sequences=[Sequence(*column) for column in columns],
            logprobs=_split(file["logprobs"], lengths - prompts),
            rewards=file["rewards"],
            advantages=file["advantages"],
            group_size=int(file["group_size"]),
        )


def _split(flat: NDArray[Scalar], lengths: NDArray[np.int64]) -> list[NDArray[Scalar]]:
    """`flat` cut into pieces of these lengths."""
    return np.split(flat, np.cumsum(lengths)[:-1])
