"""Checks of this machine for runs, with remedies.

Each check is a function that yields findings. A new check is one function and one entry in CHECKS. This
module loads no model library and writes nothing.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from engine.cleanup.disk_usage import DAMAGED, REMOVED, SET_ASIDE, measure, readable
from engine.machine.gpus import LOCKS, GpuFault, visible_gpus
from engine.weight_sync.slots import is_of_living
from profiles.load import load as load_profile
from profiles.load import names as profile_names
from store.env_file import EnvFileFault, read_env_file
from store.filesystem import file_system, network_warning
from store.inspection import inspect
from store.private import too_wide

GIB = 2**30
GPU_PACKAGES = ("vllm", "liger-kernel")
# torch 2.11 is built for CUDA 12.8.
OLDEST_CUDA_DRIVER = 12_080
SHARED_MEMORY = Path("/dev/shm")
# Two published versions of a 1.5 B model in bf16, and one that is being downloaded.
SLOTS_GIB = 9.0
# The two newest and the best checkpoint of each of three arms, with fp32 masters and moments.
GPU_RUN_GIB = 80.0
CPU_RUN_GIB = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `remedy` is the advice if `status` is not 'ok'."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str = ""


def checks(home: Path, *, every: bool = False) -> Iterator[Check]:
    """Yield every finding about this machine and `home`.

    `every` is passed to `records`.
    """
    for check in CHECKS:
        yield from records(home, every=every) if check is records else check(home)


def versions(home: Path) -> Iterator[Check]:
    """Check the versions of Python and of the packages in pyproject.toml."""
    python = platform.python_version()
    yield Check("python", "ok", f"{python} at {sys.executable}")
    try:
        wanted = [Requirement(text) for text in requires("mathrl-tui") or ()]
    except PackageNotFoundError:
        yield Check("packages", "warn", "run from a source tree", "pip install -e . checks the versions")
        return
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement)
    for name in GPU_PACKAGES:
        found = _installed(name)
        detail = found or "not installed; runs on GPUs need it"
        yield Check(
            name, "ok", detail, "" if found else "pip install 'mathrl-tui[gpu]' on a machine with GPUs"
        )


def gpus(home: Path) -> Iterator[Check]:
    """Check GPUs, driver and free memory, and the folder of the GPU locks."""
    try:
        found = visible_gpus()
    except GpuFault as error:
        yield Check("GPUs", "fail", *str(error).split("; ", 1))
        return
    if not found:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        detail = "none" if hidden is None else f"none is visible with CUDA_VISIBLE_DEVICES={hidden!r}"
        yield Check(
            "GPUs", "ok", detail, "the profile demo runs on the CPU; for GPUs, install NVIDIA's driver"
        )
        return
    yield from _driver()
    for gpu in found:
        yield _gpu_memory(gpu.index, gpu.uuid, gpu.name, gpu.memory_gib)
    if LOCKS.exists() and not os.access(LOCKS, os.W_OK):
        yield Check("GPU locks", "fail", f"{LOCKS} cannot be written", f"chmod 1777 {LOCKS}")


def memory(home: Path) -> Iterator[Check]:
    """Check CPUs, memory and shared memory, and leftovers of dead runs in it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    yield Check("machine", "ok", f"{len(os.sched_getaffinity(0))} CPUs, {total:.0f} GiB of memory")
    if not SHARED_MEMORY.is_dir():
        remedy = f"mkdir {SHARED_MEMORY} && mount -t tmpfs shm {SHARED_MEMORY}"
        yield Check("shared memory", "fail", f"{SHARED_MEMORY} does not exist", remedy)
        return
    usage = shutil.disk_usage(SHARED_MEMORY)
    detail = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free in {SHARED_MEMORY}"
    remedy = "in Docker: --shm-size=16g or --ipc=host; elsewhere: mount -o remount,size=16G /dev/shm"
    if usage.free < 64 * 2**20:
        yield Check("shared memory", "fail", detail, remedy)
    elif usage.free < SLOTS_GIB * GIB:
        yield Check("shared memory", "warn", f"{detail}: enough for the demo, not for a 1.5 B model", remedy)
    else:
        yield Check("shared memory", "ok", detail)
    left = [path for path in SHARED_MEMORY.glob("mathrl-*-@*") if not is_of_living(path)]
    if left:
        size = sum(path.stat().st_size for path in left) / GIB
        names = " ".join(map(str, left[:3])) + (" …" if len(left) > 3 else "")
        yield Check(
            "shared memory", "warn", f"{size:.1f} GiB left by dead runs", f"resume them, or rm {names}"
        )


def disk(home: Path) -> Iterator[Check]:
    """Check free space and file system of the home."""
    place = next(folder for folder in (home.absolute(), *home.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free / GIB
    wanted = GPU_RUN_GIB if _has_gpus() else CPU_RUN_GIB
    detail = f"{free:.0f} GiB free for {home} ({file_system(place) or 'file system unknown'})"
    if not os.access(place, os.W_OK):
        yield Check("home", "fail", f"{place} cannot be written", "choose another with --home or MATHRL_HOME")
    elif free < wanted:
        remedy = "free some, choose another with --home, or lower keep_checkpoints"
        yield Check("home", "warn", f"{detail}; a run may need {wanted:.0f}", remedy)
    else:
        yield Check("home", "ok", detail)
    for warning in filter(None, (network_warning(place), too_wide(home))):
        detail, _, remedy = warning.partition("; ")
        yield Check("home", "warn", detail, remedy)


def records(home: Path, *, every: bool = False) -> Iterator[Check]:
    """Check every line of the journals, and that the store matches them.

    With `every`, also yield damage that was acknowledged, or whose rows are journaled again.
    """
    for finding in inspect(home, every=every):
        yield Check("records", "warn", finding.detail, finding.remedy)


def space(home: Path) -> Iterator[Check]:
    """Report the size of the home by kind, and of its set-aside files."""
    found = measure(home)
    if not found.total:
        return
    aside = found.rest[SET_ASIDE] + found.rest[REMOVED] + found.by_kind().get(DAMAGED, 0)
    yield Check("space", "ok", f"{home} takes {found.words(most=99)}")
    if aside:
        detail = f"{readable(aside)} are damaged files that were set aside, or remains of removed runs"
        yield Check("space", "warn", detail, "mathrl-tui gc lists unneeded files, and removes them")


def caches(home: Path) -> Iterator[Check]:
    """Check the hub's cache for the profiles' models."""
    folder = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    for model in sorted({load_profile(name).model.source for name in profile_names()} - {"made"}):
        is_there = (folder / "hub" / f"models--{model.replace('/', '--')}" / "snapshots").is_dir()
        if is_there:
            yield Check("cache", "ok", f"{model} is in {folder}")
        elif offline:
            yield Check(
                "cache",
                "warn",
                f"{model} is not in {folder} and HF_HUB_OFFLINE is set",
                "unset it, or copy it",
            )
        else:
            yield Check("cache", "ok", f"{model} is not in {folder}; a run that needs it downloads it")


def keys(home: Path) -> Iterator[Check]:
    """Check which keys are set, in the environment or in .env.

    Their values are never shown.
    """
    file = Path(".env").absolute()
    listed: dict[str, str] = {}
    try:
        listed = read_env_file(file)
    except EnvFileFault as fault:
        detail, _, remedy = str(fault).partition("; ")
        yield Check(".env", "fail", detail, remedy)
    for name in sorted(
        {load_profile(name).traces.api_key_variable for name in profile_names()} | {"HF_TOKEN"}
    ):
        where = "the environment" if os.environ.get(name) else str(file) if listed.get(name) else ""
        purpose = "private or gated models" if name == "HF_TOKEN" else "traces from a teacher"
        yield Check(name, "ok", f"set in {where}" if where else f"not set; only {purpose} need it")
    if listed and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        yield Check(".env", "warn", f"{file} can be read by others", f"chmod 600 {file}")


CHECKS: tuple[Callable[[Path], Iterator[Check]], ...] = (
    versions,
    gpus,
    memory,
    disk,
    space,
    records,
    caches,
    keys,
)


def _package(requirement: Requirement) -> Check:
    found = _installed(requirement.name)
    if found is None:
        return Check(requirement.name, "fail", "not installed", f"pip install '{requirement}'")
    if not requirement.specifier.contains(found, prereleases=True):
        detail = f"{found}, but {requirement.specifier} is required"
        return Check(requirement.name, "fail", detail, f"pip install '{requirement}'")
    return Check(requirement.name, "ok", found)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _has_gpus() -> bool:
    try:
        return bool(visible_gpus())
    except GpuFault:
        return True


def _driver() -> Iterator[Check]:
    import pynvml

    pynvml.nvmlInit()
    driver, cuda = pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlSystemGetCudaDriverVersion_v2()
    pynvml.nvmlShutdown()
    detail = f"{driver}, for CUDA up to {cuda // 1000}.{cuda % 1000 // 10}"
    if cuda < OLDEST_CUDA_DRIVER:
        yield Check("driver", "fail", detail, "install a newer driver; torch 2.11 is built for CUDA 12.8")
    else:
        yield Check("driver", "ok", detail)


def _gpu_memory(index: int, uuid: str, name: str, total: float) -> Check:
    import pynvml

    pynvml.nvmlInit()
    used = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(uuid)).used / GIB
    pynvml.nvmlShutdown()
    detail = f"{name}, {total - used:.0f} of {total:.0f} GiB free"
    if used > 0.1 * total:
        return Check(
            f"cuda:{index}",
            "warn",
            detail,
            "nvidia-smi lists its processes; wait for them or choose another GPU",
        )
    return Check(f"cuda:{index}", "ok", detail)
