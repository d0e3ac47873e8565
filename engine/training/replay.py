"""Recorded rollouts, which a run can train on without a generator.

One file holds everything that one step trained on. Ragged arrays (ids, log-probs) lie end to end, with their
lengths in another array, in NumPy's .npz form. The log-probs are stored byte by byte: all lowest bytes, then
all second ones, and so on. The high bytes are similar, so they compress well.
A file is written under a temporary name, synced and renamed, so a reader sees a whole step or none.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from engine.data.recorded import COUNTS_FROM_ZERO, recorded_path, step_path
from engine.data.sequence import TokenSequence
from engine.machine.ranks import by_rank_zero
from engine.training.packing import BLANK
from store.atomic import replacing
from store.private import make_folder, opener

# Raised if a step's file is cut short, changed or missing.
DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
    BadZipFile,
    zlib.error,
)

# Of zlib's nine levels. Level 6 takes 2.5 times as long and saves 1 % more.
LEVEL = 4
# (4, tokens): byte k of every little-endian float32.
PLANES = "logprob_bytes"

Element = TypeVar("Element", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Rollouts:
    """The completions of one step (N: the N-th update), in training order.

    All lists are as long as `sequences`.
    Attributes:
        version: of the weights that sampled them.
        logprobs: the sampler's, (response tokens,) each.
        rewards: (completions,).
        advantages: (completions,).
        group_size: completions of one question, which are adjacent.
    """

    step: int
    version: int
    ex_ids: list[str]
    sequences: list[TokenSequence]
    logprobs: list[NDArray[np.float32]]
    rewards: NDArray[np.float64]
    advantages: NDArray[np.float64]
    group_size: int


def with_blank(rollouts: Rollouts) -> Rollouts:
    """Append a row without a response.

    It is for a rank that has nothing else to train on.
    """
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
    """Write one step's rollouts durably.

    A step that is recorded again (after a resume) replaces the old file.
    Raises: OSError if it cannot be written.
    """
    make_folder(folder)
    path = step_path(folder, rollouts.step)
    with replacing(path) as draft, open(draft, "wb", opener=opener) as file:
        _write(file, _columns(rollouts))


def _columns(rollouts: Rollouts) -> dict[str, NDArray[Any]]:
    sequences = rollouts.sequences
    return {
        "step": np.array(rollouts.step),
        "version": np.array(rollouts.version),
        "ex_ids": np.array(rollouts.ex_ids, dtype=np.str_),
        "token_ids": np.concatenate([item.token_ids for item in sequences]).astype(np.int32),
        "lengths": np.array([len(item.token_ids) for item in sequences]),
        "prompt_lengths": np.array([item.prompt_length for item in sequences]),
        "finished": np.array([item.finished for item in sequences]),
        PLANES: np.ascontiguousarray(
            np.concatenate(rollouts.logprobs).astype("<f4").view(np.uint8).reshape(-1, 4).T
        ),
        "rewards": rollouts.rewards,
        "advantages": rollouts.advantages,
        "group_size": np.array(rollouts.group_size),
    }


def _write(file: BinaryIO, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write the archive of `np.savez_compressed` at another level.

    The level is that of the compression.
    """
    with ZipFile(file, "w", ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name, column in columns.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, column, allow_pickle=False)


def read(folder: Path, step: int) -> Rollouts:
    """Return the rollouts of `step`.

    Raises: FileNotFoundError if it was not recorded; one of DAMAGE for a damaged file.
    """
    path = recorded_path(folder, step)
    with np.load(path, allow_pickle=False) as file:
        lengths, prompts = file["lengths"], file["prompt_lengths"]
        token_ids = _split(file["token_ids"], lengths)
        columns = zip(token_ids, prompts.tolist(), file["finished"].tolist(), strict=True)
        return Rollouts(
            step=int(file["step"]) + path.name.startswith(COUNTS_FROM_ZERO),
            version=int(file["version"]),
            ex_ids=file["ex_ids"].tolist(),
            sequences=[TokenSequence(*column) for column in columns],
            logprobs=_split(_logprobs(file), lengths - prompts),
            rewards=file["rewards"],
            advantages=file["advantages"],
            group_size=int(file["group_size"]),
        )


def _logprobs(file: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Return the log-probs of a file, end to end.

    Older versions stored them unchanged.
    """
    if PLANES not in file:
        return file["logprobs"]
    return np.ascontiguousarray(file[PLANES].T).view("<f4").reshape(-1).astype(np.float32)


def _split(flat: NDArray[Element], lengths: NDArray[np.int64]) -> list[NDArray[Element]]:
    """Split `flat` into pieces of these lengths."""
    return np.split(flat, np.cumsum(lengths)[:-1])
