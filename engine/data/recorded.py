"""Paths of recorded rollouts, and a check that a record is complete.

RUN/rollouts/ARM/update_000012.npz holds what step 12, the 12th update, trained on
(engine/training/replay.py). Older versions counted from 0 and wrote step_000011.npz for it; both are read.
Only run.json is opened here. The launcher checks before a run starts, and imports neither numpy nor torch for
it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from profiles.training import Grpo
from store.atomic import replace_text
from store.home import RunFolder
from store.run_config import read_config

PREFIX = "update_"
# Prefix of the files of older versions.
COUNTS_FROM_ZERO = "step_"
# File with the budget for which the oldest steps of an arm were removed.
PRUNED = "pruned.json"


def rollout_folder(home: Path, run: str, arm: str) -> Path:
    """Return the folder of a run's rollouts of `arm`.

    `run` is its id in `home`, or its folder anywhere.
    """
    return _run_folder(home, run) / "rollouts" / arm


def step_path(folder: Path, step: int) -> Path:
    """Return the path that the rollouts of `step` are written to."""
    return folder / f"{PREFIX}{step:06d}.npz"


def recorded_path(folder: Path, step: int) -> Path:
    """Return the path that the rollouts of `step` are read from.

    It may be a file of an older version.
    """
    path, older = step_path(folder, step), folder / f"{COUNTS_FROM_ZERO}{step - 1:06d}.npz"
    return older if older.is_file() and not path.is_file() else path


def recorded_steps(folder: Path) -> list[int]:
    """Return the recorded steps, in order."""
    older = {step + 1 for step in _numbers(folder, COUNTS_FROM_ZERO)}
    return sorted(older.union(_numbers(folder, PREFIX)))


def mark_pruned(folder: Path, budget_gb: float) -> None:
    """Record that the oldest steps in `folder` are removed for the budget.

    Call it before the first one is removed.
    """
    if _pruned_for(folder) != budget_gb:
        replace_text(folder / PRUNED, json.dumps({"rollouts_gb": budget_gb}))


def _pruned_for(folder: Path) -> float | None:
    """Return the budget in GB for which steps in `folder` were removed.

    Return None if all remain.
    """
    try:
        return float(json.loads((folder / PRUNED).read_text(encoding="utf-8"))["rollouts_gb"])
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError):
        return float("nan")


def _numbers(folder: Path, prefix: str) -> list[int]:
    names = (path.stem.removeprefix(prefix) for path in folder.glob(f"{prefix}*.npz"))
    return [int(name) for name in names if name.isdecimal()]


def missing_rollouts(home: Path, settings: Grpo, arms: Sequence[str]) -> str:
    """Return why `settings.replay` cannot train `arms` again, or "".

    The reason is one line.
    """
    run = settings.replay
    if not run:
        return ""
    if not _run_folder(home, run).is_dir():
        return (
            f"grpo.replay {run}: no such run in {home}, and no such folder; `mathrl-tui runs` lists the runs"
        )
    faults = [_missing_steps(home, settings, arm) for arm in arms] + [_other_sampling(home, settings)]
    return next((f"grpo.replay {run}: {fault}" for fault in faults if fault), "")


def _missing_steps(home: Path, settings: Grpo, arm: str) -> str:
    folder = rollout_folder(home, settings.replay, arm)
    found = set(recorded_steps(folder))
    if not found:
        return (
            f"no recorded rollouts of arm {arm}; choose a run that trained it with grpo.record_rollouts = true "
            "and still has its rollouts"
        )
    gap = next((step for step in range(1, settings.steps + 1) if step not in found), None)
    if gap is None:
        return ""
    if gap < min(found) and (budget := _pruned_for(folder)) is not None:
        return (
            f"steps 1 to {min(found) - 1} of arm {arm} were removed to keep within grpo.rollouts_gb = {budget:g}; "
            "choose a run that was recorded with --set grpo.rollouts_gb=0, which keeps all"
        )
    if max(found) > gap:
        return f"{step_path(folder, gap)} is missing; choose a run with a whole record"
    last = gap - 1
    return f"{last} steps of arm {arm} are recorded, grpo.steps is {settings.steps}; --set grpo.steps={last}"


def _other_sampling(home: Path, settings: Grpo) -> str:
    """Return the fault of a record at another temperature, or "".

    The recorded log-probs belong to its temperature. A ratio to them at another one has no meaning.
    """
    config = _run_folder(home, settings.replay) / "run.json"
    if not config.is_file():
        return ""
    try:
        drawn_at = read_config(config).profile["grpo"]["temperature"]
    except (ValueError, LookupError, TypeError):
        return f"{config} is not a run's configuration; choose a run that is whole"
    if drawn_at == settings.temperature:
        return ""
    return (
        f"its rollouts were drawn at temperature {drawn_at}, grpo.temperature is {settings.temperature}; "
        f"--set grpo.temperature={drawn_at}"
    )


def _run_folder(home: Path, run: str) -> Path:
    known = RunFolder(home, run).path
    return known if known.is_dir() else Path(run).expanduser()
