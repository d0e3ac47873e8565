"""Checkpoints: immutable folders `step_000050` for exact resumption.

Each is a Hugging Face model plus the trainer's state.

    ROOT/step_000050/        config, weights in the compute dtype, tokenizer;
                             trainer_0_000.safetensors, …: masters, moments;
                             trainer_0.json, trainer_0.safetensors: RNG and state, and the arrays in them;
                             weights_000049.slot: older weights that the worker still needs;
                             digests.json: size and digest of every other file (engine/artifacts/digests.py)
    ROOT/best -> step_…      the highest score so far, replaced atomically
    ROOT/damaged-step_…      set aside, because a file is missing or changed (engine/training/fallback.py)

A folder is written under a temporary name, synced and renamed. So a reader never sees a partial folder, and a
crash leaves at most a temporary folder, which the next save removes.
A finished folder does not change, with two exceptions. `score` is added when a validation that ran during
training returns. Older weights are removed when no job needs them.
`engine.training.checkpoint_writer` writes the folders. Reading a checkpoint never runs code from it.
"""

from __future__ import annotations

import json
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

from engine.artifacts import digests
from engine.artifacts.digests import DamagedFile, Digest
from engine.machine.ranks import by_rank_zero, rank
from engine.training.pickled_state import read_pickled_state
from engine.training.plain import Arrays, Stored, decode, encode
from store.atomic import replace_text, replacing
from store.private import close_to_others, make_folder, sync

SCORE = "score.json"
_NAME = re.compile(r"step_\d+")
WEIGHTS = "model.safetensors"


class CheckpointError(ValueError):
    """A folder is not a checkpoint to resume from; the message names it."""


class Stateful(Protocol):
    """An object that can restore its state, such as an optimizer."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the object's state by `state`, which its `state_dict` returned."""


def path_of(root: Path, step: int) -> Path:
    """Return the path of the checkpoint of `step`."""
    return root / f"step_{step:06d}"


def draft_of(final: Path) -> Path:
    """Return the temporary path of a checkpoint while it is being written."""
    return final.with_name(f".writing-{final.name}")


def trainer_file() -> str:
    """Return the name of the file with this rank's RNG and state."""
    return f"trainer_{rank()}.json"


def older_trainer_file() -> str:
    """Return the older name of the file with this rank's RNG and state.

    Older versions wrote it.
    """
    return f"trainer_{rank()}.pt"


def arrays_file() -> str:
    """Return the name of the file with this rank's arrays.

    The arrays belong to its RNG and state.
    """
    return f"trainer_{rank()}.safetensors"


def tensor_file(part: int) -> str:
    """Return the name of file number `part` of this rank's master weights.

    It also holds the optimizer's moments.
    """
    return f"trainer_{rank()}_{part:03d}.safetensors"


def extra_weights_file(version: int) -> str:
    """Return the name of the file with an older weight version.

    The worker still uses that version.
    The file is a copy of a published slot.
    """
    return f"weights_{version:06d}.slot"


def extra_weights(folder: Path) -> dict[int, Path]:
    """Return the paths of a checkpoint's older weights by version.

    The oldest version comes first.
    """
    found = sorted(folder.glob("weights_*.slot"))
    return {int(path.stem.removeprefix("weights_")): path for path in found}


@by_rank_zero
def drop_extra_weights(root: Path) -> None:
    """Remove the older weights from the newest checkpoint.

    Call it when training is done and no job needs them. Earlier checkpoints keep theirs: if the newest turns
    out to be damaged, training resumes from one of them.
    """
    folder = latest(root)
    if folder is None:
        return
    paths = extra_weights(folder).values()
    listed = digests.without(folder, {path.name for path in paths}) if paths else None
    if listed is not None:
        replace_text(folder / digests.LIST, listed)
    for path in paths:
        path.unlink()


def begin(draft: Path) -> None:
    """Create the folder to write into, and remove what a crashed process left."""
    make_folder(draft.parent)
    _remove_leftovers(draft.parent)
    make_folder(draft, exist_ok=False)


def finish(draft: Path, final: Path, durable: Mapping[str, Digest]) -> None:
    """Complete a checkpoint: write digests, sync, rename `draft` to `final`.

    Args:
        durable: digests of the files that are already synced, by relative path.
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
    """Write the validation score of a step; point `best` to the highest.

    A step without a checkpoint is skipped. If scores are equal, the earliest step stays best.
    """
    folder = path_of(root, step)
    if not folder.is_dir():
        return
    replace_text(folder / SCORE, _score_text(score))
    leader = best(root)
    if leader is None or score > score_of(leader):
        _point_best(root, folder)


def score_of(folder: Path) -> float:
    """Return the score that `set_score` wrote, or −inf without one.

    Raises: DamagedFile if the file was changed.
    """
    path = folder / SCORE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return float("-inf")
    except UnicodeDecodeError:
        raise DamagedFile(path, "the file differs from what was written") from None
    try:
        content = json.loads(text)
        score = float(content["score"])
    except (ValueError, LookupError, TypeError):
        raise DamagedFile(path, "the file differs from what was written") from None
    # Older versions wrote no digest.
    if text not in (_score_text(score), json.dumps({"score": score})):
        raise DamagedFile(path, "the file differs from what was written")
    return score


def _score_text(score: float) -> str:
    """Return the canonical JSON of a score, with its own digest."""
    return json.dumps({"score": score, "xxh3": digests.digest([repr(score).encode()]).xxh3})


def choose_best(root: Path) -> None:
    """Link `best` to the highest score, if the linked checkpoint is gone.

    If no checkpoint has a score, the link is removed.
    Raises: DamagedFile if a score was changed.
    """
    if best(root) is not None:
        return
    (root / "best").unlink(missing_ok=True)
    scored = [folder for folder in steps(root) if score_of(folder) > float("-inf")]
    if scored:
        # `max` returns the first of equal scores, which is the earliest step.
        _point_best(root, max(scored, key=score_of))


def _point_best(root: Path, folder: Path) -> None:
    with replacing(root / "best") as link:
        link.symlink_to(folder.name)


def prune(root: Path, keep: int) -> None:
    """Remove all checkpoints except the newest `keep` and the best.

    Each removal starts with a rename, so a checkpoint disappears at once.
    """
    spared = best(root)
    for folder in steps(root)[:-keep]:
        if folder != spared:
            folder.rename(root / f".removed-{folder.name}")
    _remove_leftovers(root)


def steps(root: Path) -> list[Path]:
    """Return the checkpoints in `root`, oldest first.

    Raises: OSError if `root` exists and cannot be read.
    """
    try:
        return sorted(path for path in root.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []


def latest(root: Path) -> Path | None:
    """Return the newest checkpoint, or None."""
    found = steps(root)
    return found[-1] if found else None


def best(root: Path) -> Path | None:
    """Return the checkpoint that `best` points to, or None.

    It is the one with the highest validation score.
    """
    link = root / "best"
    return root / link.readlink() if link.is_symlink() and link.exists() else None


def load(folder: Path, optimizer: Stateful) -> dict[str, Any]:
    """Restore optimizer, masters and RNG; return the stage's `state`.

    Raises: CheckpointError if the folder holds no trainer state (for example, a bare model).
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
        f"{folder}: {path.name} is missing; choose a checkpoint that as many trainer processes wrote"
    )


def with_tensors(skeleton: Mapping[Any, Any], tensors: Mapping[str, Tensor]) -> dict[Any, Any]:
    """Return `skeleton` with every `Stored` replaced by its tensor.

    Dicts may be nested.
    """
    state: dict[Any, Any] = {}
    for key, value in skeleton.items():
        if isinstance(value, Stored):
            value = tensors[value.name]
        elif isinstance(value, Mapping):
            value = with_tensors(value, tensors)
        state[key] = value
    return state


def rng_state() -> dict[str, Any]:
    """Return the RNG state of Python, NumPy, torch and each CUDA device."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng(state: Mapping[str, Any]) -> None:
    """Restore every global generator from `state`.

    Skip CUDA devices that do not exist now.
    """
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    for device, saved in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(saved, device)


def _remove_leftovers(root: Path) -> None:
    """Remove drafts of crashed processes and checkpoints that were pruned."""
    for pattern in (".writing-step_*", ".removed-step_*"):
        for folder in root.glob(pattern):
            shutil.rmtree(folder)
