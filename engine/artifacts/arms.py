"""Locate the checkpoints of an arm and the model that it starts from.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine.artifacts.finished import mark_of
from engine.context import StageFailed
from engine.plan import Step
from profiles.schema import Arm, Profile
from store.home import RunFolder

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
# An empty file that marks a checkpoint without optimizer state. A later removal of the state keeps it, because
# its name is not one of the trainer's files (engine.artifacts.digests.of_model).
WEIGHTS_ONLY = "without_optimizer"


def has_weights(folder: Path) -> bool:
    """Return True if `folder` holds a model in Hugging Face format."""
    return any((folder / name).is_file() for name in WEIGHTS)


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint folder, 50 for `step_000050`."""
    return int(checkpoint.name.rpartition("_")[2])


def checkpoints(folder: RunFolder, arm: str) -> list[Path]:
    """Return the arm's complete checkpoints, oldest first."""
    return sorted(path for path in folder.checkpoints(arm).glob("step_*") if has_weights(path))


def last_step(folder: RunFolder, arm: str) -> int | None:
    """Return the step of the newest complete checkpoint, or None."""
    found = checkpoints(folder, arm)
    return step_of(found[-1]) if found else None


def checkpoint_folders(folder: RunFolder) -> list[Path]:
    """Return the checkpoints of all arms of a run."""
    return sorted(
        path for path in folder.path.glob("checkpoints/*/step_*") if path.is_dir() and not path.is_symlink()
    )


def untrainable(checkpoint: Path) -> str:
    """Return in one line why training cannot continue from `checkpoint`.

    The result is empty unless its optimizer state was removed.
    """
    if not (checkpoint / WEIGHTS_ONLY).is_file():
        return ""
    return (
        f"arm {checkpoint.parent.name}: the optimizer state of {checkpoint.name} was removed (rm --optimizer), so that "
        "training cannot go on; its weights can be evaluated and exported. Start a new run to train"
    )


def trained(folder: RunFolder, profile: Profile) -> list[str]:
    """Return the names of the arms that are fully trained in this run."""
    return [arm.name for arm in profile.arms if arm.stage != "none" and finished(folder, arm.name)]


def finished(folder: RunFolder, arm: str) -> bool:
    """Return True if the arm's stage is finished."""
    return mark_of(folder, arm).is_file()


def all_trained(folder: RunFolder, plan: Iterable[Step]) -> bool:
    """Return True if all training of the plan is finished.

    The trainer has then freed its GPU memory.
    """
    return all(finished(folder, step.arm) for step in plan if step.arm)


def standing(folder: RunFolder, profile: Profile, arm: Arm) -> tuple[str, int]:
    """Return the model of `arm` for evaluation and child arms, and its step.

    The model is a folder or a hub name.
    It is the last checkpoint, or the best one by validation if the profile sets eval.checkpoint to `best`.

    Raises: StageFailed if the arm has no checkpoint.
    """
    if arm.stage == "none":
        return standing(folder, profile, profile.arm(arm.parent)) if arm.parent else (base_model(profile), 0)
    found = checkpoints(folder, arm.name)
    if not found:
        raise StageFailed(
            f"arm {arm.name}: no checkpoint with weights in {folder.checkpoints(arm.name)}; "
            f"train it with stage {arm.stage}"
        )
    best = folder.checkpoints(arm.name) / "best"
    if profile.eval.checkpoint == "best" and best.exists() and has_weights(best):
        return str(best.resolve()), step_of(best.resolve())
    return str(found[-1]), step_of(found[-1])


def parent_model(folder: RunFolder, profile: Profile, arm: Arm) -> str:
    """Return the model folder or hub name that `arm` starts from.

    Raises: StageFailed if its parent has no checkpoint.
    """
    return standing(folder, profile, profile.arm(arm.parent))[0] if arm.parent else base_model(profile)


def tokenizer_source(folder: RunFolder, profile: Profile) -> str:
    """Return the base model's folder or hub name: every arm's tokenizer.

    Raises: StageFailed if the base model does not exist yet.
    """
    return standing(folder, profile, profile.arms[0])[0]


def base_model(profile: Profile) -> str:
    """Return model.source: a hub name, or a folder with a leading ~ expanded."""
    source = profile.model.source
    return str(Path(source).expanduser()) if source.startswith("~") else source
