"""Checkpoints: immutable folders `step_000050`, each a Hugging Face model plus what exact resumption needs.

    ROOT/step_000050/        config, weights in the compute dtype, tokenizer;
                             trainer_0_000.safetensors, …: masters, moments;
                             trainer_0.json, trainer_0.safetensors: RNG and state, and the arrays in them;
                             weights_000049.slot: older weights that the worker still needs;
                             digests.json: size and digest of every other file (engine/digests.py)
    ROOT/best -> step_…      the highest score so far, replaced atomically
    ROOT/damaged-step_…      set aside, because a file is missing or changed (engine/learning/fallback.py)

A folder is written under a temporary name, synced and renamed, so a reader never sees a torn one and a crash leaves
at most a temporary folder that the next save removes. Nothing in a finished folder changes, except that `score` is
added once a validation that ran beside training has come in, and that older weights go when no job needs them.
`engine.learning.checkpoint_writer` writes them. No file of a checkpoint can run code when it is read.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file
from torch import Tensor

from engine import digests
from engine.digests import DamagedFile, Digest
from engine.learning.pickled_state import read_pickled_state
from engine.learning.plain import Arrays, Stored, decode, encode
from engine.ranks import by_rank_zero, rank
from store.private import close_to_others, make_folder, write_text

SCORE = "score.json"
_NAME = re.compile(r"step_\d+")
WEIGHTS = "model.safetensors"


class CheckpointError(ValueError):
    """A folder that is no checkpoint to go on from; the message names it."""


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
    """Return the name of the file of this rank's RNG and state in a checkpoint."""
    return f"trainer_{rank()}.json"


def older_trainer_file() -> str:
    """Return the name that older versions gave to the file of this rank's RNG and state."""
    return f"trainer_{rank()}.pt"


def arrays_file() -> str:
    """Return the name of the file of the arrays in this rank's RNG and state."""
    return f"trainer_{rank()}.safetensors"


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
    """Remove the older weights from the newest checkpoint, when its training is done and no job needs them.

    Those before it keep theirs: if the newest turns out to be damaged, training resumes from one of them.
    """
    folder = latest(root)
    if folder is None:
        return
    paths = carried(folder).values()
    listed = digests.without(folder, {path.name for path in paths}) if paths else None
    if listed is not None:
        _replace(folder / digests.LIST, listed)
    for path in paths:
        path.unlink()


def begin(draft: Path) -> None:
    """Makes the folder to write into, and removes what a process that died has left."""
    make_folder(draft.parent)
    _remove_leftovers(draft.parent)
    make_folder(draft, exist_ok=False)


def finish(draft: Path, final: Path, durable: Mapping[str, Digest]) -> None:
    """List the digests of a written folder, make it durable and give it its name.

    `durable` files are on the disk already, and have these digests.
    """
    digests.write_list(draft, durable)
    for path in draft.rglob("*"):
        close_to_others(path)
        if path.relative_to(draft).as_posix() not in durable:
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
    _replace(folder / SCORE, _score_text(score))
    leader = best(root)
    if leader is None or score > score_of(leader):
        _point_best(root, folder)


def score_of(folder: Path) -> float:
    """Return the score that `set_score` wrote, −inf if there is none. Raises: DamagedFile if it was changed."""
    path = folder / SCORE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return float("-inf")
    except UnicodeDecodeError:
        raise DamagedFile(path, "it is not as it was written") from None
    try:
        content = json.loads(text)
        score = float(content["score"])
    except (ValueError, LookupError, TypeError):
        raise DamagedFile(path, "it is not as it was written") from None
    # Older versions wrote no digest.
    if text not in (_score_text(score), json.dumps({"score": score})):
        raise DamagedFile(path, "it is not as it was written")
    return score


def _score_text(score: float) -> str:
    """Return the only spelling of a score, with its own digest."""
    return json.dumps({"score": score, "xxh3": digests.digest([repr(score).encode()]).xxh3})


def choose_best(root: Path) -> None:
    """Point `best` to the highest score among the checkpoints there are, if it points to none of them any more."""
    if best(root) is not None:
        return
    (root / "best").unlink(missing_ok=True)
    scored = [folder for folder in steps(root) if score_of(folder) > float("-inf")]
    if scored:
        # `max` returns the first of equal ones, which is the earliest.
        _point_best(root, max(scored, key=score_of))


def _point_best(root: Path, folder: Path) -> None:
    link = root / ".best"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(root / "best")
    sync(root)


def _replace(path: Path, text: str) -> None:
    """Write a small file of a finished checkpoint, durably and at once."""
    draft = path.with_name(f".{path.name}")
    write_text(draft, text)
    sync(draft)
    draft.replace(path)
    sync(path.parent)


def prune(root: Path, keep: int) -> None:
    """Removes all checkpoints but the newest `keep` and the best. A removed one disappears at once, by a rename."""
    spared = best(root)
    for folder in steps(root)[:-keep]:
        if folder != spared:
            folder.rename(root / f".removed-{folder.name}")
    _remove_leftovers(root)


def steps(root: Path) -> list[Path]:
    """Return the checkpoints in `root`, oldest first. Raises: OSError if `root` is there and cannot be read."""
    try:
        return sorted(path for path in root.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []


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
    trainer = _read_trainer(folder)
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob(f"trainer_{rank()}_*.safetensors")):
        tensors |= load_file(file)
    optimizer.load_state_dict(with_tensors(trainer["optimizer"], tensors))
    restore_rng(trainer["rng"])
    state: dict[str, Any] = trainer["state"]
    return state


def write_trainer(folder: Path, trainer: Mapping[str, Any]) -> None:
    """Write this rank's RNG and state, without the optimizer's tensors."""
    arrays: Arrays = {}
    plain = encode(trainer, arrays)
    save_arrays(arrays, folder / arrays_file())
    (folder / trainer_file()).write_text(json.dumps(plain), encoding="utf-8")


def _read_trainer(folder: Path) -> dict[str, Any]:
    path, pickled = folder / trainer_file(), folder / older_trainer_file()
    if path.is_file():
        plain = json.loads(path.read_text(encoding="utf-8"))
        trainer: dict[str, Any] = decode(plain, load_arrays(folder / arrays_file()))
        return trainer
    if pickled.is_file():
        return read_pickled_state(pickled)
    raise CheckpointError(
        f"{folder}: it has no {path.name}; name a checkpoint that was written by as many trainer processes"
    )


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
