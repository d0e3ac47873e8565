"""The rollouts that runs have recorded: where they lie, and whether they are enough to train on again.

RUN/rollouts/ARM/step_000012.npz holds what step 12 trained on (engine/learning/replay.py). Nothing is opened here but
run.json: the launcher looks before a run starts, and imports neither numpy nor torch for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from profiles.schema import Grpo
from store.home import RunFolder


def rollout_folder(home: Path, run: str, arm: str) -> Path:
    """Where a run keeps the rollouts of `arm`; `run` is its id in `home`, or its folder anywhere."""
    return _run_folder(home, run) / "rollouts" / arm


def step_path(folder: Path, step: int) -> Path:
    """Where the rollouts of `step` lie."""
    return folder / f"step_{step:06d}.npz"


def recorded_steps(folder: Path) -> list[int]:
    """The recorded steps, in order."""
    numbers = (path.stem.removeprefix("step_") for path in folder.glob("step_*.npz"))
    return sorted(int(number) for number in numbers if number.isdecimal())


def missing_rollouts(home: Path, settings: Grpo, arms: Sequence[str]) -> str:
    """One line where `settings.replay` names a run that cannot be trained on again in `arms`; "" where all is well."""
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
            f"no recorded rollouts of arm {arm}; name a run that trained it with grpo.record_rollouts = true"
        )
    first = next((step for step in range(settings.steps) if step not in found), None)
    if first is None:
        return ""
    if max(found) > first:
        return f"{step_path(folder, first)} is missing; name a run whose record is whole"
    return (
        f"{first} steps of arm {arm} are recorded, grpo.steps is {settings.steps}; --set grpo.steps={first}"
    )


def _other_sampling(home: Path, settings: Grpo) -> str:
    """The recorded log-probs are those of a temperature: at another one no ratio to them means anything."""
    config = _run_folder(home, settings.replay) / "run.json"
    if not config.is_file():
        return ""
    try:
        drawn_at = json.loads(config.read_text(encoding="utf-8"))["profile"]["grpo"]["temperature"]
    except (ValueError, LookupError, TypeError):
        return f"{config} is no run's configuration; name a run that is whole"
    if drawn_at == settings.temperature:
        return ""
    return (
        f"its rollouts were drawn at temperature {drawn_at}, grpo.temperature is {settings.temperature}; "
        f"--set grpo.temperature={drawn_at}"
    )


def _run_folder(home: Path, run: str) -> Path:
    known = RunFolder(home, run).path
    return known if known.is_dir() else Path(run).expanduser()
