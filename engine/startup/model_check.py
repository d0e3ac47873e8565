"""Check that a run's code paths compute a model as its own forward does.

    plan ─▶ paths to compare ─▶ passed before? ── yes ─▶ start
                                      └─ no ─▶ python -m engine.startup.self_check ─▶ start, or LaunchError

The check comes before a run. A model that passed is recorded in HOME/cache/model_check, under everything that
the result depends on. So the next start needs no check. This module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from engine.data.cache import content_key
from engine.errors import LaunchError
from engine.ipc.no_bars import NO_BARS
from engine.plan import Step, needs_worker
from engine.startup import preflight
from profiles.schema import Profile
from profiles.stages import TRAINING
from store import isolated
from store.private import touch

ReportProgress = Callable[[str], object]

# Larger files are identified by size and time of change, smaller ones by their content.
HASHED_BYTES = 32 << 20
# The checked paths of a run, and the setting that influences each.
PATHS = {"trains": "gradient_checkpointing", "generates": "max_model_len"}
MODEL_FILES = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt", "*.jinja")


def ignore_progress(line: str) -> None:
    """Discard a progress line."""


def check_model(
    home: Path, profile: Profile, plan: Sequence[Step], report_progress: ReportProgress = ignore_progress
) -> None:
    """Check that the paths of `plan` compute the model as its own forward.

    A model that the run itself creates is checked when training starts, as every model is.

    Args:
        report_progress: receives one line for each check that takes seconds.
    Raises: LaunchError if a path differs. Nothing is written unless the model passes.
    """
    wanted = request(profile, plan)
    folder = _located(wanted)
    if folder is None and (wanted["trains"] or wanted["generates"]):
        report_progress(
            f"model.source {wanted['source']}: downloading its configuration and tokenizer from the hub"
        )
        preflight.check_hub_model(profile, plan)
        folder = _located(wanted)
    asked = wanted if folder is None else _unknown(home, wanted, folder)
    if not (asked["trains"] or asked["generates"]):
        return
    fault = _ask(asked, report_progress)
    if fault:
        raise LaunchError(fault)
    # The process may have downloaded weights, or a newer snapshot.
    checked = _located(wanted)
    for path in PATHS:
        if asked[path] and checked is not None:
            _remember(_record(home, wanted, path, checked))


def request(profile: Profile, plan: Sequence[Step]) -> dict[str, Any]:
    """Return the input of `engine.startup.self_check`, as JSON values.

    `trains` and `generates` are False if `plan` does not need that check, or if it has passed before.
    """
    # Import late: commands that only look at a run need none of it.
    from engine.artifacts.arms import base_model

    hardware, stages = profile.hardware, {step.stage for step in plan}
    trained = [getattr(profile, stage) for stage in TRAINING if stage in stages]
    is_there = profile.model.source != "made"
    return {
        "source": base_model(profile),
        "revision": profile.model.revision,
        "trains": is_there and bool(trained),
        "generates": is_there and hardware.generator == "transformers" and needs_worker(profile, plan),
        "gradient_checkpointing": any(settings.gradient_checkpointing for settings in trained),
        "max_model_len": hardware.max_model_len,
        "threads": hardware.trainer_threads,
    }


def records(home: Path) -> Path:
    """Return the folder of passed checks.

    It holds one file for each code path of each model that has passed.
    """
    return home / "cache" / "model_check"


def _located(wanted: dict[str, Any]) -> Path | None:
    """Return the model's folder.

    Returns: None if no check needs it, or if it must be downloaded first.
    """
    if not (wanted["trains"] or wanted["generates"]):
        return None
    # Import late: commands to a live run do not need it.
    from engine.model_folder import located

    folder = located(wanted["source"], wanted["revision"])
    return None if folder is None else folder.path


def _unknown(home: Path, wanted: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return `wanted` without the paths that have passed before."""
    passed = [path for path in PATHS if wanted[path] and _record(home, wanted, path, folder).is_file()]
    return wanted | dict.fromkeys(passed, False)


def _record(home: Path, wanted: dict[str, Any], path: str, folder: Path) -> Path:
    """Return the file that marks a path as passed.

    Its name is a hash of all that the result depends on.
    """
    versions = {package: version(package) for package in ("torch", "transformers")}
    facts = [path, wanted[PATHS[path]], versions, _sources(), _files(folder)]
    return records(home) / content_key(facts)


def _files(folder: Path) -> dict[str, list[Any]]:
    """Return the identity of each file of a model folder, to detect changes."""
    return {path.name: _identity(path) for pattern in MODEL_FILES for path in folder.glob(pattern)}


def _identity(path: Path) -> list[Any]:
    status = path.stat()
    if status.st_size <= HASHED_BYTES:
        return [hashlib.blake2b(path.read_bytes()).hexdigest()]
    # Programs such as cp -p and rsync set the modification time, but cannot set the change time.
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _sources() -> str:
    """Return a hash of the code that computes.

    After a change of that code, every model is checked again.
    """
    engine = Path(__file__).parent
    paths = [
        engine / "self_check.py",
        *(
            path
            for part in ("generators", "learning", "model_folder")
            for path in (engine / part).glob("*.py")
        ),
    ]
    digest = hashlib.blake2b()
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _remember(record: Path) -> None:
    try:
        touch(record)
    except OSError:
        # The run's own folder cannot be created either, and that error gives the remedy.
        return


def _ask(wanted: dict[str, Any], report_progress: ReportProgress) -> str:
    """Run the check in a separate process; return the fault found, or ""."""
    command = isolated.command("engine.startup.self_check", json.dumps(wanted))
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            start_new_session=True,
            env={**isolated.environment(), "PYTHONUNBUFFERED": "1", **NO_BARS},
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                words: dict[str, str] = json.loads(line)
                if "fault" in words:
                    return words["fault"]
                report_progress(words["progress"])
            return f"model.source {wanted['source']}: the self-check ended {_manner(process.wait())}{_last_line(log)}"
        finally:
            process.kill()
            process.communicate()


def _manner(status: int) -> str:
    if status == -9:
        return "with signal 9, which often means that memory ran out"
    return f"with signal {-status}" if status < 0 else f"with exit status {status}"


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    return f": {lines[-1]}" if lines else ""
