"""Checks before a run starts: each fault is one line.

Nothing is written. This module does not import torch: it looks for packages without loading them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import LaunchError
from engine.machine import gpus
from engine.plan import Step, needs_worker
from profiles.load import load as load_profile
from profiles.load import names as profile_names
from profiles.schema import Profile

if TYPE_CHECKING:
    from engine.model_folder import ModelFolder

# Largest fraction of a GPU's memory for vLLM if the trainer uses the same GPU.
MOST_BESIDE_A_TRAINER = 0.5
# The fraction that error messages propose.
FRACTION = 0.3
# Stages that load no model.
WITHOUT_MODEL = ("data", "traces")


def check(
    home: Path,
    profile: Profile,
    plan: Sequence[Step],
    found: Sequence[gpus.Gpu],
    kept: Mapping[str, str] | None = None,
    with_rows: bool = True,
) -> None:
    """Check that `home` and this machine meet the plan's requirements.

    Args:
        found: the GPUs of this machine.
        kept: the keys of cached outputs that a run has frozen (engine/data/locations.py).
        with_rows: False to skip the rows, if an output that was made from them is in the home.
    Raises: LaunchError for the first fault.
    """
    # Import late: it loads numpy, which is not needed to look at a run.
    from engine.data.dataset import DataError, check_source

    check_devices(profile, plan, found)
    check_generator(profile, plan)
    check_model(profile, plan)
    check_suite(profile, plan)
    try:
        if with_rows:
            check_source(profile, {step.stage for step in plan})
    except DataError as error:
        raise LaunchError(str(error)) from None
    check_inputs(home, profile, plan, kept or {})
    check_replay(home, profile, plan)


def check_inputs(home: Path, profile: Profile, plan: Sequence[Step], kept: Mapping[str, str]) -> None:
    """Check that each stage's input exists or is planned before it.

    A needed teacher must have a key.

    Raises: LaunchError for the first missing input.
    """
    from engine.data import locations
    from engine.teacher.key import KeyMissing, find_key

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
    """Check that the run of grpo.replay recorded the needed rollouts.

    Raises: LaunchError if it did not.
    """
    from engine.data.recorded import missing_rollouts

    missing = missing_rollouts(home, profile.grpo, [step.arm for step in plan if step.stage == "grpo"])
    if missing:
        raise LaunchError(missing)


def check_devices(profile: Profile, plan: Sequence[Step], found: Sequence[gpus.Gpu]) -> None:
    """Check that the profile's GPUs exist, and that processes can share them.

    Raises: LaunchError if a GPU is missing, or trainer and worker leave each other too little memory.
    """
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
    """Check a GPU that trainer and worker share.

    It allows one trainer rank, and needs bounded memory for vLLM.
    """
    hardware, number = profile.hardware, gpus.shared(profile.hardware)[0]
    if hardware.trainer_processes > 1:
        free = f"cuda:{gpus.wanted(hardware, has_worker=False)[-1] + 1}"
        raise LaunchError(
            f"profile {profile.name}: hardware.worker takes cuda:{number}, which a trainer rank uses; "
            f"--set hardware.worker={free}"
        )
    most = MOST_BESIDE_A_TRAINER if trains and hardware.generator == "vllm" else 1.0
    if hardware.gpu_memory_fraction > most:
        raise LaunchError(
            f"profile {profile.name}: vLLM would take {hardware.gpu_memory_fraction:.0%} of cuda:{number}, which the "
            f"trainer uses too; --set hardware.gpu_memory_fraction={FRACTION}"
        )


def _instead(profile: Profile, found: Sequence[gpus.Gpu]) -> str:
    """Return settings or a profile that would fit the GPUs that were found."""
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
    fitting = [name for name in profile_names() if _fits(name, len(found))]
    return (
        f"--profile {fitting[0]} fits"
        if fitting
        else "set hardware.trainer and hardware.worker to existing devices"
    )


def check_generator(profile: Profile, plan: Sequence[Step]) -> None:
    """Check that the library of the worker's generator is installed.

    Raises: LaunchError if it is not.
    """
    if needs_worker(profile, plan) and profile.hardware.generator == "vllm" and find_spec("vllm") is None:
        raise LaunchError(
            f"profile {profile.name}: hardware.generator is 'vllm', which is not installed; "
            "pip install 'mathrl-tui[gpu]', or --set hardware.generator=transformers"
        )


def check_suite(profile: Profile, plan: Sequence[Step]) -> None:
    """Check that the suite's tasks and local rows exist.

    Its window must also fit the hardware.

    Raises: LaunchError for the first fault.
    """
    from engine.lm_eval_suite import window
    from engine.lm_eval_suite.names import faults

    if not any(step.stage == "eval" for step in plan):
        return
    for fault in faults(profile.eval):
        raise LaunchError(fault)
    if profile.eval.suite and not profile.eval.server and (fault := window.fault(profile)):
        raise LaunchError(fault)


def check_model(profile: Profile, plan: Sequence[Step]) -> None:
    """Check that the engine can use the model as the profile requires.

    The model is a folder, or the hub's cached copy.

    Raises: LaunchError if it cannot.
    """
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
    """Download a hub model's configuration and tokenizer, and check them.

    Nothing is downloaded if the model is already on this machine.

    Raises: LaunchError if they cannot be downloaded or used.
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
    """Return a model's checked folder, or None if it must be downloaded.

    Args:
        field: prefix of the error message.
        is_used: if False, a model that is not cached and may not be downloaded is not an error.
    Raises: LaunchError if the engine cannot use the model.
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
    hardware = load_profile(name).hardware
    return all(index < gpu_count for index in gpus.wanted(hardware, has_worker=True))


def _count(number: int) -> str:
    return "one GPU" if number == 1 else f"{number} GPUs"
