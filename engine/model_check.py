"""Before a run starts: compare how it computes its model with the model's own forward. Imports no torch.

    plan ─▶ what to compare ─▶ known from an earlier start? ─▶ else python -m engine.self_check ─▶ LaunchError, or go

A model that passed is remembered in HOME/cache/model_check by everything that the answer follows from, so that the
next start costs nothing.
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

from engine import preflight
from engine.data.cache import content_key
from engine.plan import Step, needs_worker
from engine.processes.no_bars import NO_BARS
from engine.refusals import LaunchError
from profiles import Profile
from store import isolated
from store.private import touch

Tell = Callable[[str], object]

# Larger files are recognised by size and time of change, smaller ones by their content.
HASHED_BYTES = 32 << 20
# The paths of a run, and the setting that matters to each.
PATHS = {"trains": "gradient_checkpointing", "generates": "max_model_len"}
MODEL_FILES = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt", "*.jinja")


def quiet(line: str) -> None:
    """Show nothing."""


def check_model(home: Path, profile: Profile, plan: Sequence[Step], tell: Tell = quiet) -> None:
    """Raise LaunchError if a path that `plan` takes does not compute the profile's model as its own forward does.

    `tell` is called with one line on what takes time. Nothing is written unless the model passes. A model that the
    run makes itself is compared when training starts, as every model is.
    """
    wanted = request(profile, plan)
    folder = _located(wanted)
    if folder is None and (wanted["trains"] or wanted["generates"]):
        tell(f"model.source {wanted['source']}: fetching its configuration and tokenizer from the hub")
        preflight.check_hub_model(profile, plan)
        folder = _located(wanted)
    asked = wanted if folder is None else _unknown(home, wanted, folder)
    if not (asked["trains"] or asked["generates"]):
        return
    fault = _ask(asked, tell)
    if fault:
        raise LaunchError(fault)
    # The process may have downloaded weights, or a newer snapshot.
    checked = _located(wanted)
    for path in PATHS:
        if asked[path] and checked is not None:
            _remember(_record(home, wanted, path, checked))


def request(profile: Profile, plan: Sequence[Step]) -> dict[str, Any]:
    """Return what engine.self_check has to compare for `plan`: both paths false if nothing."""
    from engine.arms import base_model  # numpy is not needed to look at a run

    hardware, stages = profile.hardware, {step.stage for step in plan}
    trained = [getattr(profile, stage) for stage in ("sft", "grpo") if stage in stages]
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
    """Return the folder with a file for each path of each model that has passed."""
    return home / "cache" / "model_check"


def _located(wanted: dict[str, Any]) -> Path | None:
    """The model's folder, None if nothing is wanted of it or if it must be downloaded first."""
    if not (wanted["trains"] or wanted["generates"]):
        return None
    from engine.model_folder import located  # commands to a live run need none of it

    folder = located(wanted["source"], wanted["revision"])
    return None if folder is None else folder.path


def _unknown(home: Path, wanted: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`wanted` without the paths that have passed before."""
    passed = [path for path in PATHS if wanted[path] and _record(home, wanted, path, folder).is_file()]
    return wanted | dict.fromkeys(passed, False)


def _record(home: Path, wanted: dict[str, Any], path: str, folder: Path) -> Path:
    """The file whose presence says that a path has passed, named for everything that the answer follows from."""
    versions = {package: version(package) for package in ("torch", "transformers")}
    facts = [path, wanted[PATHS[path]], versions, _sources(), _files(folder)]
    return records(home) / content_key(facts)


def _files(folder: Path) -> dict[str, list[Any]]:
    """What tells one state of a model folder from another."""
    return {path.name: _identity(path) for pattern in MODEL_FILES for path in folder.glob(pattern)}


def _identity(path: Path) -> list[Any]:
    status = path.stat()
    if status.st_size <= HASHED_BYTES:
        return [hashlib.blake2b(path.read_bytes()).hexdigest()]
    # A program can set the time of modification, as cp -p and rsync do, but not that of change.
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _sources() -> str:
    """A hash of the code that computes: a change of it makes every model be compared again."""
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
        return  # the run's own folder cannot be made either, and that error names the remedy


def _ask(wanted: dict[str, Any], tell: Tell) -> str:
    """Run the check in a process of its own; return the fault that it finds, "" if there is none."""
    command = isolated.command("engine.self_check", json.dumps(wanted))
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
                tell(words["progress"])
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
