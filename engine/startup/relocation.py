"""A run's inputs outside its home: recorded at start, found at resume.

    start:  model, rows, suite rows, replayed run ─▶ run.json "inputs": path, file digests, cache keys
    resume: old path? same place relative to the home? to this folder? named with --set?
            ─▶ the first with the same files, else an error with the remedy

A home may be moved to another machine or mount path, together with the folders around it. The cached outputs
of data, traces and preprocess are in the home. They are found by their keys, without their inputs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.artifacts.arms import base_model, has_weights
from engine.artifacts.digests import digest, file_digest
from engine.context import StageFailed
from engine.data import dataset, locations
from engine.data.dataset import DataError
from engine.data.locations import TOKENIZER_FILES
from engine.errors import LaunchError
from engine.model_folder import FolderFault, located
from engine.plan import Step
from engine.startup.preflight import WITHOUT_MODEL
from profiles.load import overridden
from profiles.schema import Profile
from store.run_config import OutsideInput, RunConfig, RunInputs

MODEL, ROWS, SUITE, REPLAY = "model.source", "data.source", "eval.suite_data", "grpo.replay"
# Other settings that a resume may change: where the work is done, but not what is computed.
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
# Larger files are sampled instead of read in full.
WHOLE_BYTES = 32 << 20
SAMPLES, SAMPLE_BYTES = 64, 256 << 10
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")

Files = dict[str, str]


@dataclass(frozen=True, slots=True)
class LocatedRun:
    """Configuration and profile of a run on this machine.

    `without_rows` is True if only the caches have the rows.
    """

    config: RunConfig
    profile: Profile
    without_rows: bool


def record(home: Path, profile: Profile) -> RunInputs:
    """Return the inputs of a run that starts now, for its run.json.

    Relative paths start in the working directory.

    Raises: LaunchError if an input cannot be read.
    """
    try:
        outside = {field: _recorded(profile, field) for field in (MODEL, ROWS, SUITE, REPLAY)}
        found = {field: each for field, each in outside.items() if each is not None}
        return RunInputs(home=str(home.absolute()), outside=found, keys=dict(locations.keys(home, profile)))
    except (OSError, DataError, StageFailed) as error:
        raise LaunchError(str(error)) from None


def relocate(home: Path, config: RunConfig, plan: Sequence[Step], settings: Sequence[str] = ()) -> LocatedRun:
    """Return a run's configuration with input paths of this machine.

    Args:
        home: the current path of the home.
        plan: the steps to do; inputs that none of them needs are not searched.
        settings: `section.field=value`, for places of inputs and for PLACES.
    Raises: LaunchError, in one line, if an input is not found or has other files than at the start.
    """
    given = _allowed(settings)
    profile = overridden(config.valid_profile, settings)
    inputs = config.inputs
    if inputs is None:
        return LocatedRun(config, profile, without_rows=False)
    kept = locations.keys_of_this_format(inputs.keys)
    needed, without_rows = _needed(profile, plan), False
    moved: list[str] = []
    for field, was in inputs.outside.items():
        if field not in needed:
            continue
        if field == MODEL and not was.path and MODEL not in given:
            # The revision on the hub may point to newer files now, so use the recorded commit.
            moved += [f'model.revision="{was.commit}"'] if was.commit else []
            continue
        place = _place(config, home, field, was, given.get(field, ""))
        if place == was.path and Path(config.folder).is_dir():
            continue
        if place is not None:
            moved.append(f"{field}={json.dumps(place, ensure_ascii=False)}")
        elif field == ROWS and ROWS not in given and _has_data(home, profile, kept):
            without_rows = True
        else:
            raise LaunchError(_refusal(config, home, field, was, given.get(field, "")))
    profile = overridden(profile, moved)
    return LocatedRun(config.replaced(profile=profile.model_dump(mode="json")), profile, without_rows)


def _allowed(settings: Sequence[str]) -> dict[str, str]:
    """Return the paths among `settings`.

    Raises: LaunchError for a setting that would change the results.
    """
    found = {}
    for setting in settings:
        field, _, value = (part.strip() for part in setting.partition("="))
        if field in (MODEL, ROWS, SUITE, REPLAY):
            found[field] = value
        elif field not in PLACES:
            raise LaunchError(
                f"--set {field}: a resumed run keeps its profile; only places may be set "
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


def _has_data(home: Path, profile: Profile, kept: locations.StoredKeys) -> bool:
    return "data" in kept and locations.data_folder(home, profile, kept).is_dir()


def _place(config: RunConfig, home: Path, field: str, was: OutsideInput, given: str) -> str | None:
    """Return the absolute path of the files of `was`.

    It is the given path or a candidate. Suite rows at their old path are accepted as they are: a user may
    repair a file that a task could not read before a resume.

    Returns: None if they are not found.
    """
    if field == SUITE and not given and Path(was.path).exists():
        return was.path
    for path in [Path(given).expanduser().absolute()] if given else _candidates(config, home, was.path):
        if path.exists() and was.files and _holds(path, field, was.files):
            return str(path)
    return None


def _candidates(config: RunConfig, home: Path, path: str) -> Iterator[Path]:
    """Yield possible paths of an input.

    They are the old one, then those relative to the home and the working directory.
    """
    yield Path(path)
    old_home = config.inputs.home if config.inputs else ""
    for old, new in ((old_home, home.absolute()), (config.folder, Path.cwd())):
        yield Path(os.path.normpath(new / os.path.relpath(path, old)))


def _refusal(config: RunConfig, home: Path, field: str, was: OutsideInput, given: str) -> str:
    name = f"run {config.run}: {field}"
    if not was.files:
        return (
            f"{name}: its files were not on the machine at the start and cannot be verified; start a new run"
        )
    if given:
        path = Path(given).expanduser().absolute()
        fault = "its files differ from those at the start" if path.exists() else "no such folder or file"
        return f"{name}={given}: {fault}; name a copy of {was.path or config.model_source}"
    places = list(dict.fromkeys(_candidates(config, home, was.path)))
    changed = [str(place) for place in places if place.exists()]
    if changed:
        return (
            f"{name}: {changed[0]} differs from its content at the start; "
            f"give the path of a copy with --set {field}=PATH"
        )
    return f"{name}: not found at {' or '.join(map(str, places))}; give its new path with --set {field}=PATH"


def _recorded(profile: Profile, field: str) -> OutsideInput | None:
    """Return the record of an input.

    Returns: None if the profile does not have that input, or if it cannot move.
    """
    if field == MODEL:
        return _recorded_model(profile)
    section, _, name = field.partition(".")
    source = str(getattr(getattr(profile, section), name))
    path = Path(source).expanduser()
    if not source or source == dataset.WORD_PROBLEMS or not path.exists():
        # A name on the hub, or of a run in the home: neither can move.
        return None
    files = dataset.fingerprint(profile) if field == ROWS else _files(path, field)
    return OutsideInput(path=str(path.absolute()), files=files)


def _recorded_model(profile: Profile) -> OutsideInput | None:
    source = base_model(profile)
    if source == "made":
        return None
    try:
        folder = located(source, profile.model.revision)
    except FolderFault:
        return None
    if folder is None or not has_weights(folder.path):
        return OutsideInput(path="", commit="", files={})
    if Path(source).is_dir():
        return OutsideInput(path=str(Path(source).absolute()), commit="", files=_files(folder.path, MODEL))
    commit = folder.path.name if _COMMIT.match(folder.path.name) else ""
    return OutsideInput(path="", commit=commit, files=_files(folder.path, MODEL))


def _holds(path: Path, field: str, files: Files) -> bool:
    """Return True if all of `files` are at `path` with the same content.

    Additional files do not matter.
    """
    try:
        if path.is_file():
            return [_digest(path, field)] == list(files.values())
        return all(
            (path / name).is_file() and _digest(path / name, field) == each for name, each in files.items()
        )
    except (OSError, DataError):
        return False


def _files(path: Path, field: str) -> Files:
    """Return digests of the input's relevant files, by relative name.

    Relevant files influence the results.
    """
    if field == MODEL:
        found = [path / name for name in MODEL_FILES if (path / name).is_file()]
        found += [file for pattern in ("*.safetensors", "*.bin") for file in path.glob(pattern)]
    else:
        found = list(path.glob("**/*.jsonl" if field == SUITE else "run.json"))
    return {file.relative_to(path).as_posix(): _digest(file, field) for file in sorted(found)}


def _digest(path: Path, field: str) -> str:
    """Return the digest of a file.

    It covers all bytes or, for a large file, its size and evenly spaced samples.
    engine/artifacts/digests.py detects damage. This digest only distinguishes models, and all their weights differ.
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
