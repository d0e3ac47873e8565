"""Checkpoints: immutable folders `step_000050`, each a Hugging Face model plus what exact resumption needs.

    ROOT/step_000050/        config, weights in the compute dtype, tokenizer;
                             trainer_0_000.safetensors, …: masters, moments; trainer_0.pt: RNG, state;
                             weights_000049.slot: older weights that the worker had not done with
    ROOT/best -> step_…      the highest score so far, replaced atomically

A folder is written under a temporary name, synced and renamed, so a reader never sees a torn one and a crash leaves
at most a temporary folder that the next save removes. Nothing in a finished folder changes, except that `score` is
added once a validation that ran beside training has come in, and that older weights go when nobody waits for them.
`engine.learning.checkpoint_writer` writes them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.ranks import by_rank_zero, rank

SCORE = "score.json"
WEIGHTS = "model.safetensors"


class CheckpointError(ValueError):
    """A folder that is no checkpoint to go on from; the message names it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Stands in the pickled state for a tensor that lies in the tensor file under `name`."""

    name: str


class Stateful(Protocol):
    """What takes its state back: an optimizer."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def path_of(root: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies."""
    return root / f"step_{step:06d}"


def draft_of(final: Path) -> Path:
    """Where a checkpoint lies while it is being written."""
    return final.with_name(f".writing-{final.name}")


def trainer_file() -> str:
    """Where this rank's RNG and state lie in a checkpoint."""
    return f"trainer_{rank()}.pt"


def tensor_file(part: int) -> str:
    """Where a part of this rank's masters and moments lies in a checkpoint."""
    return f"trainer_{rank()}_{part:03d}.safetensors"


def carried_file(version: int) -> str:
    """Where a checkpoint has the weights of an older version that the worker had not done with; a published slot."""
    return f"weights_{version:06d}.slot"


def carried(folder: Path) -> dict[int, Path]:
    """The older weights in a checkpoint by version, oldest first."""
    found = sorted(folder.glob("weights_*.slot"))
    return {int(path.stem.removeprefix("weights_")): path for path in found}


@by_rank_zero
def drop_carried(root: Path) -> None:
    """Removes the older weights from every checkpoint, when nobody will ask for them again."""
    for path in root.glob("step_*/weights_*.slot"):
        path.unlink()


def begin(draft: Path) -> None:
    """Makes the folder to write into, and removes what a process that died has left."""
    draft.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(draft.parent)
    draft.mkdir()


def finish(draft: Path, final: Path, synced: Collection[Path] = ()) -> None:
    """Makes a written folder durable, of which the files `synced` are so already, and gives it its name."""
    for path in draft.rglob("*"):
        if path not in synced:
            sync(path)
    sync(draft)
    draft.rename(final)
    sync(final.parent)


def set_score(root: Path, step: int, score: float) -> None:
    """Notes the validation score of a step and points `best` to it where it is the highest so far.

    A step that has no checkpoint (any more) is passed over. Of equal scores the earliest step stays best.
    """
    folder = path_of(root, step)
    if not folder.is_dir():
        return
    draft = folder / f".{SCORE}"
    draft.write_text(json.dumps({"score": score}))
    sync(draft)
    draft.replace(folder / SCORE)
    sync(folder)
    leader = best(root)
    if leader is None or score > score_of(leader):
        link = root / ".best"
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name)
        link.replace(root / "best")
        sync(root)


def score_of(folder: Path) -> float:
    """The score that `set_score` noted; −inf where there is none."""
    path = folder / SCORE
    return float(json.loads(path.read_text())["score"]) if path.is_file() else float("-inf")


def prune(root: Path, keep: int) -> None:
    """Removes all checkpoints but the newest `keep` and the best. A removed one disappears at once, by a rename."""
    spared = best(root)
    for folder in steps(root)[:-keep]:
        if folder != spared:
            folder.rename(root / f".removed-{folder.name}")
    _remove_leftovers(root)


def steps(root: Path) -> list[Path]:
    """The whole checkpoints in `root`, oldest first."""
    return sorted(root.glob("step_[0-9]*"))


def latest(root: Path) -> Path | None:
    """The newest checkpoint, or none."""
    found = steps(root)
    return found[-1] if found else None


def best(root: Path) -> Path | None:
    """The checkpoint with the highest score, or none."""
    link = root / "best"
    return root / link.readlink() if link.is_symlink() and link.exists() else None


def load(folder: Path, optimizer: Stateful) -> dict[str, Any]:
    """Restores optimizer, masters and RNG from `folder` and gives the stage's `state` back.

    CheckpointError where the folder holds no trainer state (a bare model, say).
    """
    path = folder / trainer_file()
    if not path.is_file():
        raise CheckpointError(
            f"{folder}: no {path.name} here to go on from; name a checkpoint of as many trainers"
        )
    trainer: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob(f"trainer_{rank()}_*.safetensors")):
        tensors |= load_file(file)
    optimizer.load_state_dict(with_tensors(trainer["optimizer"], tensors))
    restore_rng(trainer["rng"])
    state: dict[str, Any] = trainer["state"]
    return state


def with_tensors(skeleton: Mapping[Any, Any], tensors: Mapping[str, Tensor]) -> dict[Any, Any]:
    """`skeleton` with every `Stored` tensor back in its place, in dicts of dicts."""
    state: dict[Any, Any] = {}
    for key, value in skeleton.items():
        if isinstance(value, Stored):
            value = tensors[value.name]
        elif isinstance(value, Mapping):
            value = with_tensors(value, tensors)
        state[key] = value
    return state


def rng_state() -> dict[str, Any]:
    """The state of every global generator: Python's, NumPy's, torch's on the CPU and on each CUDA device."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng(state: Mapping[str, Any]) -> None:
    """Puts every global generator back to `state`; CUDA devices that are not there now are passed over."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    for device, saved in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(saved, device)


def _remove_leftovers(root: Path) -> None:
    """Drafts of a process that died, and checkpoints that are no longer wanted."""
    for pattern in (".writing-step_*", ".removed-step_*"):
        for folder in root.glob(pattern):
            shutil.rmtree(folder)


def sync(path: Path) -> None:
    """Makes a file's bytes, or a folder's entries, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
