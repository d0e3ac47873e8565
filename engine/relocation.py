"""Inputs of a run that lie outside its home: recorded by content when it starts, found again when it is resumed.

    start:  model, rows, suite rows, replayed run ─▶ run.json "inputs": path, digest of each file, keys of the caches
    resume: at its path? beside the home, as before? under this folder? named with --set? ─▶ the first that holds the
            same files; else one line that says what to do

A home may come to another machine or mount path, and what lies around it with it. The cached outputs of data, traces
and preprocess are in the home, and are found by their keys without what they were made from.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.arms import base_model, has_weights
from engine.context import StageFailed
from engine.data import dataset, locations
from engine.data.dataset import InputError
from engine.data.locations import TOKENIZER_FILES
from engine.digests import digest, file_digest
from engine.model_folder import FolderFault, located
from engine.plan import Step
from engine.preflight import WITHOUT_MODEL
from engine.refusals import LaunchError
from profiles import Profile
from profiles.load import overridden

MODEL, ROWS, SUITE, REPLAY = "model.source", "data.source", "eval.suite_data", "grpo.replay"
# What a resume may set besides: where the work is done, and nothing of what is computed.
PLACES = frozenset(
    f"hardware.{name}"
    for name in (
        "trainer",
        "worker",
        "gpu_memory_fraction",
        "worker_copies",
        "trainer_threads",
        "worker_threads",
    )
)
MODEL_FILES = ("config.json", *TOKENIZER_FILES)
WHOLE_BYTES = 32 << 20  # larger files are sampled
SAMPLES, SAMPLE_BYTES = 64, 256 << 10
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")

Files = dict[str, str]


@dataclass(frozen=True, slots=True)
class Here:
    """A run's configuration and profile as they hold on this machine. `without_rows`: the caches have them."""

    config: dict[str, Any]
    profile: Profile
    without_rows: bool


def record(home: Path, profile: Profile) -> dict[str, Any]:
    """Return what run.json keeps of the inputs of a run that starts now in the working directory, JSON-ready.

    Raises: LaunchError if one cannot be read.
    """
    try:
        outside = {field: _recorded(profile, field) for field in (MODEL, ROWS, SUITE, REPLAY)}
        found = {field: each for field, each in outside.items() if each is not None}
        return {"home": str(home.absolute()), "outside": found, "keys": locations.keys(home, profile)}
    except (OSError, InputError, StageFailed) as error:
        raise LaunchError(str(error)) from None


def found_again(
    home: Path, config: dict[str, Any], plan: Sequence[Step], settings: Sequence[str] = ()
) -> Here:
    """Return a run's configuration with its inputs where they are on this machine.

    Args:
        home: the home as it is reached now.
        plan: what is to be done; inputs that nothing in it needs are not looked for.
        settings: `section.field=value`, of where inputs lie and of PLACES.
    Raises: LaunchError, one line, if an input is not found or holds other files than at the start.
    """
    given = _allowed(settings)
    profile = overridden(Profile.model_validate(config["profile"]), settings)
    inputs = config.get("inputs")
    if inputs is None:
        return Here(config, profile, without_rows=False)
    kept = locations.of_format(inputs["keys"])
    needed, without_rows = _needed(profile, plan), False
    moved: list[str] = []
    for field, was in inputs["outside"].items():
        if field not in needed:
            continue
        if field == MODEL and not was["path"] and MODEL not in given:
            # The hub's name for a revision may have gone on to other files.
            moved += [f'model.revision="{was["commit"]}"'] if was["commit"] else []
            continue
        place = _place(config, home, field, was, given.get(field, ""))
        if place == was["path"] and Path(config["folder"]).is_dir():
            continue
        if place is not None:
            moved.append(f"{field}={json.dumps(place, ensure_ascii=False)}")
        elif field == ROWS and ROWS not in given and _has_data(home, profile, kept):
            without_rows = True
        else:
            raise LaunchError(_refusal(config, home, field, was, given.get(field, "")))
    profile = overridden(profile, moved)
    return Here(config | {"profile": profile.model_dump(mode="json")}, profile, without_rows)


def _allowed(settings: Sequence[str]) -> dict[str, str]:
    """The paths among `settings`. LaunchError for one that would change what the run computes."""
    found = {}
    for setting in settings:
        field, _, value = (part.strip() for part in setting.partition("="))
        if field in (MODEL, ROWS, SUITE, REPLAY):
            found[field] = value
        elif field not in PLACES:
            raise LaunchError(
                f"--set {field}: a run that is resumed keeps its profile; what may be set is where it finds things "
                f"({', '.join((MODEL, ROWS, SUITE, REPLAY, *sorted(PLACES)))})"
            )
    return found


def _needed(profile: Profile, plan: Sequence[Step]) -> set[str]:
    stages = {step.stage for step in plan}
    needed = {ROWS}
    if stages - set(WITHOUT_MODEL):
        needed.add(MODEL)
    if "eval" in stages and profile.eval.suite:
        needed.add(SUITE)
    if "grpo" in stages:
        needed.add(REPLAY)
    return needed


def _has_data(home: Path, profile: Profile, kept: locations.Kept) -> bool:
    return "data" in kept and locations.data_folder(home, profile, kept).is_dir()


def _place(config: dict[str, Any], home: Path, field: str, was: dict[str, Any], given: str) -> str | None:
    """Where the files of `was` are: an absolute path, the one that was given, or None."""
    for path in [Path(given).expanduser().absolute()] if given else _candidates(config, home, was["path"]):
        if path.exists() and was["files"] and _holds(path, field, was["files"]):
            return str(path)
    return None


def _candidates(config: dict[str, Any], home: Path, path: str) -> Iterator[Path]:
    """Where an input may have come to: its old path, beside or in the home as before, under the working directory."""
    yield Path(path)
    for old, new in ((config["inputs"]["home"], home.absolute()), (config["folder"], Path.cwd())):
        yield Path(os.path.normpath(new / os.path.relpath(path, old)))


def _refusal(config: dict[str, Any], home: Path, field: str, was: dict[str, Any], given: str) -> str:
    name = f"run {config['run']}: {field}"
    if not was["files"]:
        return f"{name}: its files were not on the machine when the run started, so they cannot be told from others"
    if given:
        path = Path(given).expanduser().absolute()
        fault = (
            "it holds other files than the run was started with"
            if path.exists()
            else "no such folder or file"
        )
        return (
            f"{name}={given}: {fault}; name a copy of {was['path'] or config['profile']['model']['source']}"
        )
    places = list(dict.fromkeys(_candidates(config, home, was["path"])))
    changed = [str(place) for place in places if place.exists()]
    if changed:
        return f"{name}: {changed[0]} holds other files than the run was started with; --set {field}=PATH names a copy"
    return f"{name}: not found at {' or '.join(map(str, places))}; --set {field}=PATH names where it is now"


def _recorded(profile: Profile, field: str) -> dict[str, Any] | None:
    """What is kept of an input; None if the profile has none there, or none that could move."""
    if field == MODEL:
        return _recorded_model(profile)
    section, _, name = field.partition(".")
    source = str(getattr(getattr(profile, section), name))
    path = Path(source).expanduser()
    if not source or source == dataset.WORD_PROBLEMS or not path.exists():
        return None  # a name: of the hub, or of a run in the home
    files = dataset.fingerprint(profile) if field == ROWS else _files(path, field)
    return {"path": str(path.absolute()), "files": files}


def _recorded_model(profile: Profile) -> dict[str, Any] | None:
    source = base_model(profile)
    if source == "made":
        return None
    try:
        folder = located(source, profile.model.revision)
    except FolderFault:
        return None
    if folder is None or not has_weights(folder.path):
        return {"path": "", "commit": "", "files": {}}
    if Path(source).is_dir():
        return {"path": str(Path(source).absolute()), "commit": "", "files": _files(folder.path, MODEL)}
    commit = folder.path.name if _COMMIT.match(folder.path.name) else ""
    return {"path": "", "commit": commit, "files": _files(folder.path, MODEL)}


def _holds(path: Path, field: str, files: Files) -> bool:
    """True if all of `files` are at `path` with the content that they had; others do not matter."""
    try:
        if path.is_file():
            return [_digest(path, field)] == list(files.values())
        return all(
            (path / name).is_file() and _digest(path / name, field) == each for name, each in files.items()
        )
    except (OSError, InputError):
        return False


def _files(path: Path, field: str) -> Files:
    """Digests of the files of an input that decide what is computed, by name in it."""
    if field == MODEL:
        found = [path / name for name in MODEL_FILES if (path / name).is_file()]
        found += [file for pattern in ("*.safetensors", "*.bin") for file in path.glob(pattern)]
    else:
        found = list(path.glob("**/*.jsonl" if field == SUITE else "run.json"))
    return {file.relative_to(path).as_posix(): _digest(file, field) for file in sorted(found)}


def _digest(path: Path, field: str) -> str:
    """A digest of a file: of all of it, or, for a large one, of its size and of samples all over it.

    Damage is found elsewhere (engine/digests.py); this tells one model from another, whose weights all differ.
    """
    if field == ROWS:
        return dataset.file_hash(path)
    size = path.stat().st_size
    if size <= WHOLE_BYTES:
        return file_digest(path).xxh3
    with path.open("rb") as file:
        return digest([str(size).encode(), *_samples(file.fileno(), size)]).xxh3


def _samples(descriptor: int, size: int) -> Iterator[bytes]:
    for place in range(SAMPLES):
        yield os.pread(descriptor, SAMPLE_BYTES, (size - SAMPLE_BYTES) * place // (SAMPLES - 1))
