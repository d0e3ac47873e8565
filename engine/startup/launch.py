"""Start and resume runs, for the commands and the console.

    request ─▶ all checks ─▶ run.json ─▶ detached supervisor

All checks come before the first write. The supervisor does not depend on the terminal: it continues if the
console, the terminal or the connection is closed. This module does not import torch.
"""

from __future__ import annotations

import errno
import os
import platform
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import chdir
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.errors import LaunchError
from engine.machine import gpus
from engine.plan import PlanError, Step, extended, make_plan
from engine.protocol.control import Reply
from engine.startup import preflight
from engine.startup.frozen_config import frozen
from engine.startup.model_check import ReportProgress, check_model, ignore_progress
from engine.supervisor import commands as commanding
from engine.supervisor.commands import command
from profiles.schema import Profile
from store import isolated
from store.disk_refusal import refusal
from store.home import RunFolder, create_run
from store.private import opener
from store.run_config import VERSION, RunConfig, write_config
from store.subject import Changes
from store.wording import abridged

__all__ = ["LaunchError", "Reply", "command", "is_alive", "resume_run", "start_run"]

PACKAGES = (
    "mathrl-tui",
    "torch",
    "transformers",
    "vllm",
    "datasets",
    "lm-eval",
    "math-verify",
    "duckdb",
    "numpy",
)
# The largest integer of a column in the store.
LARGEST_SEED = 2**63 - 1
# The imports take long on a cold disk.
START_SECONDS = 60.0

# Supervisors that this process started. They are reaped after they have exited.
_started: list[subprocess.Popen[bytes]] = []


def start_run(
    home: Path,
    profile: Profile,
    stages: Sequence[str],
    seed: int,
    name: str = "",
    changed: Changes | None = None,
    report_progress: ReportProgress = ignore_progress,
    is_wanted: Callable[[], bool] = lambda: True,
) -> str:
    """Start a new run; return its id once a supervisor holds it.

    Args:
        stages: as engine.plan.parse_stages returns them.
        changed: the settings that differ from the named profile, for reports (profiles.changed_settings).
        report_progress: receives one line for each check that takes seconds.
        is_wanted: called after the checks; if it returns False, nothing is started.
    Raises: LaunchError if the run cannot be started. No file of it is then left on the disk.
    """
    # Imported late: numpy is not needed to look at a run.
    from engine.startup import relocation

    if not 0 <= seed <= LARGEST_SEED:
        raise LaunchError(f"seed {abridged(str(seed))}: give a whole number from 0 to {LARGEST_SEED}")
    plan, found = _checked(home, profile, stages, report_progress)
    inputs = relocation.record(home, profile)
    if not is_wanted():
        raise LaunchError("the start was cancelled; no run was created")
    name = name or profile.name
    folder = _created(home, name, seed)
    _supervise_new(
        folder,
        RunConfig(
            version=VERSION,
            run=folder.run_id,
            name=name,
            profile=profile.model_dump(mode="json"),
            changed=changed or {},
            seed=seed,
            stages=tuple(stages),
            plan=tuple(plan),
            # Relative paths of the profile start here, even if the run is resumed from another folder.
            folder=str(Path.cwd()),
            inputs=inputs,
            versions=_versions(),
            git=_git(),
            hardware=_hardware(found),
            created=time.time(),
        ),
    )
    return folder.run_id


def _supervise_new(folder: RunFolder, config: RunConfig) -> None:
    """Start the supervisor of a new run. If it does not start, remove the run."""
    try:
        write_config(folder.config, config)
        _supervise(folder, Path.cwd())
    except (OSError, LaunchError) as error:
        refused = refusal(error, folder.home) if isinstance(error, OSError) else ""
        shutil.rmtree(folder.path, ignore_errors=True)
        shutil.rmtree(folder.journal, ignore_errors=True)
        raise LaunchError(refused or str(error)) from None


def _created(home: Path, name: str, seed: int) -> RunFolder:
    try:
        return create_run(home.absolute(), name, seed)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise LaunchError(f"name {name}: too long for a folder name; give a shorter one") from None
        raise LaunchError(
            refusal(error, home)
            or f"home {home}: cannot be written: {error.strerror}; choose another with --home"
        ) from None


def resume_run(
    home: Path,
    run_id: str,
    stages: Sequence[str] = (),
    report_progress: ReportProgress = ignore_progress,
    settings: Sequence[str] = (),
) -> str:
    """Resume a run that no supervisor holds, and return `run_id`.

    Args:
        stages: stages to add to its plan.
        report_progress: as for `start_run`.
        settings: new places of inputs and hardware (see engine.startup.relocation).
    Raises: LaunchError if the run cannot be resumed.
    """
    from engine.data import locations
    from engine.startup import relocation

    folder = RunFolder(home.absolute(), run_id)
    if is_alive(home, run_id):
        raise LaunchError(f"run {run_id}: it is already live; `mathrl-tui attach {run_id}` follows it")
    try:
        config, profile = frozen(folder, report_progress)
        steps = list(config.plan)
        plan = extended(steps, _extension(profile, stages, steps))
        # The folder in which it was started may not exist on this machine.
        started = Path(config.folder)
        where = started if started.is_dir() else Path.cwd()
        here = relocation.relocate(folder.home, config, plan, settings)
        with chdir(where):
            kept = locations.keys_of_this_format(config.inputs.keys if config.inputs else {})
            preflight.check(folder.home, here.profile, plan, _visible_gpus(), kept, not here.without_rows)
            check_model(folder.home, here.profile, plan, report_progress)
        _check_optimizer(folder, plan)
        if here.config != config:
            write_config(folder.config, here.config)
        if plan != steps:
            _grow(folder, here.config, plan, stages)
        _supervise(folder, where)
    except OSError as error:
        fault = refusal(error, home) or f"{error.filename}: {error.strerror}"
        raise LaunchError(f"run {run_id}: cannot be resumed: {fault}") from None
    return run_id


def is_alive(home: Path, run_id: str) -> bool:
    """Return True if a supervisor holds the run."""
    for process in [process for process in _started if process.poll() is not None]:
        _started.remove(process)
    return commanding.is_alive(home, run_id)


def _check_optimizer(folder: RunFolder, plan: Sequence[Step]) -> None:
    """Raise LaunchError if an arm needs a missing optimizer state.

    That is so if the arm still trains, and its checkpoint lacks the state.
    """
    # numpy is not needed to look at a run.
    from engine.artifacts import arms

    for step in plan:
        found = arms.checkpoints(folder, step.arm) if step.arm and not arms.finished(folder, step.arm) else []
        if found and (fault := arms.untrainable(found[-1])):
            raise LaunchError(f"run {folder.run_id}: cannot be resumed: {fault}")


def _grow(folder: RunFolder, config: RunConfig, plan: Sequence[Step], stages: Sequence[str]) -> None:
    """Write the extended `plan`.

    A moved evaluation runs again, but without its finished tasks.
    """
    if tuple(plan[: len(config.plan)]) != config.plan:
        (folder.path / "finished" / "eval").unlink(missing_ok=True)
    more = [stage for stage in stages if stage not in config.stages]
    write_config(folder.config, config.replaced(plan=plan, stages=(*config.stages, *more)))


def _checked(
    home: Path, profile: Profile, stages: Sequence[str], report_progress: ReportProgress
) -> tuple[list[Step], list[gpus.Gpu]]:
    """Check a new run; return its plan and the machine's GPUs."""
    try:
        plan = make_plan(profile, stages)
    except PlanError as error:
        raise LaunchError(str(error)) from None
    found = _visible_gpus()
    preflight.check(home.absolute(), profile, plan, found)
    check_model(home.absolute(), profile, plan, report_progress)
    return plan, found


def _visible_gpus() -> list[gpus.Gpu]:
    try:
        return gpus.visible_gpus()
    except gpus.GpuFault as error:
        raise LaunchError(str(error)) from None


def _extension(profile: Profile, stages: Sequence[str], steps: Sequence[Step]) -> list[Step]:
    if not stages:
        return []
    try:
        return make_plan(profile, stages, trained=[step.arm for step in steps if step.arm])
    except PlanError as error:
        raise LaunchError(str(error)) from None


def _spawned(folder: RunFolder, where: Path, log: Path, ready: int) -> subprocess.Popen[bytes]:
    """Return the process of a new supervisor, which writes to `ready`."""
    with open(log, "ab", opener=opener) as output:
        return subprocess.Popen(
            isolated.command("engine.supervisor", str(folder.path), str(ready)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(ready,),
            cwd=where,
            env={**isolated.environment(), "PYTHONUNBUFFERED": "1"},
        )


def _supervise(folder: RunFolder, where: Path) -> None:
    """Start the detached supervisor and wait until it holds the run.

    Raises: LaunchError, with the last line of its log, if it does not.
    """
    reader, writer = os.pipe()
    log = folder.logs / "supervisor.log"
    process = _spawned(folder, where, log, writer)
    os.close(writer)
    try:
        readable, _, _ = select.select([reader], [], [], START_SECONDS)
        if readable and os.read(reader, 16):
            _started.append(process)
            return
    finally:
        os.close(reader)
    process.kill()
    process.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    raise LaunchError(
        lines[-1] if lines else f"run {folder.run_id}: its supervisor did not start in {START_SECONDS:.0f} s"
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git() -> dict[str, Any]:
    """Return the commit of the source tree and whether it has changes.

    Returns: an empty result for an installed wheel.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return {}

    def ask(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()

    return {
        "commit": ask("rev-parse", "HEAD"),
        "changed": bool(ask("status", "--porcelain", "--untracked-files=no")),
    }


def _hardware(found: Sequence[gpus.Gpu]) -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "machine": platform.node(),
        "system": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "gpus": [
            {"uuid": gpu.uuid, "name": gpu.name, "memory_gib": round(gpu.memory_gib, 1)} for gpu in found
        ],
    }
