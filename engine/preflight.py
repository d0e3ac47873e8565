"""What must hold before a run starts: every fault is one line, and nothing has been written yet.

Imports no torch: packages are looked for, not loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import profiles
from engine import gpus
from engine.plan import Step, needs_worker
from engine.refusals import LaunchError
from profiles import Profile

if TYPE_CHECKING:
    from engine.model_folder import ModelFolder

MOST_BESIDE_A_TRAINER = 0.5  # of a GPU's memory, that vLLM may ask for where the trainer is on it too
FRACTION = 0.3  # of it, that is proposed
WITHOUT_MODEL = ("data", "traces")  # stages that load none


def check(
    home: Path,
    profile: Profile,
    plan: Sequence[Step],
    found: Sequence[gpus.Gpu],
    kept: Mapping[str, str] | None = None,
    with_rows: bool = True,
) -> None:
    """Raise LaunchError for the first thing that `plan` lacks in `home` or on this machine with GPUs `found`.

    `kept` are the keys of cached outputs that a run has frozen (engine/data/locations.py). Without `with_rows` the
    rows themselves are not looked at, because an output that was made from them is in the home.
    """
    from engine.data.dataset import InputError, check_source  # numpy is not needed to look at a run

    check_devices(profile, plan, found)
    check_generator(profile, plan)
    check_model(profile, plan)
    check_suite(profile, plan)
    try:
        if with_rows:
            check_source(profile, {step.stage for step in plan})
    except InputError as error:
        raise LaunchError(str(error)) from None
    check_inputs(home, profile, plan, kept or {})
    check_replay(home, profile, plan)


def check_inputs(home: Path, profile: Profile, plan: Sequence[Step], kept: Mapping[str, str]) -> None:
    """Every stage's input is there or planned before it; the teacher's key too, where a teacher will be asked."""
    from engine.data import locations
    from engine.traces.key import KeyMissing, find_key

    stages = [step.stage for step in plan]
    missing = locations.missing_input(home, profile, stages, kept)
    if missing:
        raise LaunchError(missing)
    if "traces" in stages and profile.traces.source == "api":
        answered = locations.data_folder(home, profile, kept).is_dir()
        if answered and locations.traces_folder(home, profile, kept).is_dir():
            return
        try:
            find_key(profile.traces)
        except KeyMissing as error:
            raise LaunchError(str(error)) from None


def check_replay(home: Path, profile: Profile, plan: Sequence[Step]) -> None:
    """The run that grpo.replay names has recorded what the plan would train on."""
    from engine.data.recorded import missing_rollouts

    missing = missing_rollouts(home, profile.grpo, [step.arm for step in plan if step.stage == "grpo"])
    if missing:
        raise LaunchError(missing)


def check_devices(profile: Profile, plan: Sequence[Step], found: Sequence[gpus.Gpu]) -> None:
    """The GPUs that the profile names are there, and trainer and worker leave each other room."""
    hardware, has_worker = profile.hardware, needs_worker(profile, plan)
    if has_worker and gpus.shared(hardware):
        _check_shared(profile, trains=any(step.arm for step in plan))
    wanted = gpus.wanted(hardware, has_worker)
    if set(wanted) <= {gpu.index for gpu in found}:
        return
    there = f"{len(found)}" if found else "none"
    raise LaunchError(
        f"profile {profile.name}: needs {_count(len(wanted))} ({', '.join(f'cuda:{n}' for n in wanted)}), "
        f"this machine has {there}; {_instead(profile, found)}"
    )


def _check_shared(profile: Profile, trains: bool) -> None:
    """One GPU for a trainer and vLLM: only one trainer, and its part of the memory."""
    hardware, number = profile.hardware, gpus.shared(profile.hardware)[0]
    if hardware.trainer_processes > 1:
        free = f"cuda:{gpus.wanted(hardware, has_worker=False)[-1] + 1}"
        raise LaunchError(
            f"profile {profile.name}: hardware.worker takes cuda:{number}, which a trainer rank has; "
            f"--set hardware.worker={free}"
        )
    most = MOST_BESIDE_A_TRAINER if trains and hardware.generator == "vllm" else 1.0
    if hardware.gpu_memory_fraction > most:
        raise LaunchError(
            f"profile {profile.name}: vLLM would take {hardware.gpu_memory_fraction:.0%} of cuda:{number}, where the "
            f"trainer is too; --set hardware.gpu_memory_fraction={FRACTION}"
        )


def _instead(profile: Profile, found: Sequence[gpus.Gpu]) -> str:
    """What could be run on the GPUs that were found."""
    together = profile.hardware.model_copy(
        update={"trainer": "cuda:0", "worker": "cuda:0", "gpu_memory_fraction": FRACTION}
    )
    if found and gpus.wanted(together, has_worker=True) == [0]:
        changed = [
            f"--set hardware.{name}={value}"
            for name, value in together.model_dump().items()
            if value != getattr(profile.hardware, name)
        ]
        return f"{' '.join(changed)} puts both on one"
    fitting = [name for name in profiles.names() if _fits(name, len(found))]
    return (
        f"--profile {fitting[0]} fits"
        if fitting
        else "set hardware.trainer and hardware.worker to what there is"
    )


def check_generator(profile: Profile, plan: Sequence[Step]) -> None:
    """What the worker generates with is installed."""
    if needs_worker(profile, plan) and profile.hardware.generator == "vllm" and find_spec("vllm") is None:
        raise LaunchError(
            f"profile {profile.name}: hardware.generator is 'vllm', which is not installed; "
            "pip install 'mathrl-tui[gpu]', or --set hardware.generator=transformers"
        )


def check_suite(profile: Profile, plan: Sequence[Step]) -> None:
    """Raise LaunchError unless the suite's tasks and local rows exist and the hardware holds its window."""
    from engine.suite import window
    from engine.suite.names import faults

    if not any(step.stage == "eval" for step in plan):
        return
    for fault in faults(profile.eval):
        raise LaunchError(fault)
    if profile.eval.suite and not profile.eval.server and (fault := window.fault(profile)):
        raise LaunchError(fault)


def check_model(profile: Profile, plan: Sequence[Step]) -> None:
    """The model's folder, or what the hub's cache holds of it, is one that the engine can use as the profile asks."""
    from engine.model_folder import FolderFault, check_use

    source = profile.model.source
    if source == "made":
        return
    is_used = any(step.stage not in WITHOUT_MODEL for step in plan)
    folder = checked_model(source, profile.model.revision, "model.source ", is_used)
    try:
        if folder is not None:
            check_use(folder, profile)
    except FolderFault as error:
        raise LaunchError(f"model.source {source}: {error}") from None


def check_hub_model(profile: Profile, plan: Sequence[Step]) -> None:
    """Download the configuration and tokenizer of a hub model that is not on this machine, and check them.

    Raises: LaunchError.
    """
    from engine.model_folder import FolderFault, small_files

    source = profile.model.source
    try:
        small_files(source, profile.model.revision)
    except FolderFault as error:
        raise LaunchError(f"model.source {source}: {error}") from None
    check_model(profile, plan)


def checked_model(
    source: str, revision: str = "main", field: str = "", is_used: bool = True
) -> ModelFolder | None:
    """Return the checked folder of a model, or None if it must be downloaded first.

    Raises: LaunchError, with `field` in front, if the engine cannot use it. What is not cached and may not be
    downloaded is no fault unless `is_used`.
    """
    from engine.model_folder import FolderFault, Unavailable, check_folder, located

    try:
        folder = located(source, revision)
        if folder is not None:
            check_folder(folder)
    except Unavailable as error:
        if is_used:
            raise LaunchError(f"{field}{source}: {error}") from None
        return None
    except FolderFault as error:
        raise LaunchError(f"{field}{source}: {error}") from None
    return folder


def _fits(name: str, gpu_count: int) -> bool:
    hardware = profiles.load(name).hardware
    return all(index < gpu_count for index in gpus.wanted(hardware, has_worker=True))


def _count(number: int) -> str:
    return "one GPU" if number == 1 else f"{number} GPUs"
