"""Output folders of data, traces and preprocess: HOME/cache/STAGE/HASH.

The hash covers everything that an output follows from: settings, `data.seed`, source files, tokenizer and
earlier outputs. So an output is made once, and shared by all runs that need the same one, whatever their own
seeds.
This module imports no torch: the launcher uses it before a run starts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.artifacts.arms import tokenizer_source
from engine.context import StageFailed
from engine.data import dataset
from engine.data.cache import content_key
from engine.data.dataset import DataError
from profiles.schema import Profile
from profiles.stages import TRAINING
from store.home import RunFolder
from store.run_config import read_config

# Format of the files in these folders; a new number makes new folders.
_FORMAT = 3
# Answers that were paid for keep their folder as long as they can be read.
_ANSWERS_FORMAT = 1
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
_AFTER_PREPROCESS = (*TRAINING, "eval")


# Keys that a run stored when it started, by stage. A missing key is computed from the present inputs.
StoredKeys = Mapping[str, str]
NONE: StoredKeys = {}


def keys(home: Path, profile: Profile) -> dict[str, str]:
    """Return the keys of the outputs that a run of `profile` will use.

    They are stored, because the inputs may move later. The key of preprocess is missing for a made model,
    because its tokenizer does not exist yet.
    """
    found = {"format": _formats(), "data": data_key(profile), "answers": answers_key(profile)}
    found["traces"] = traces_key(profile)
    if profile.model.source != "made":
        found["preprocess"] = preprocess_key(profile, tokenizer_source(RunFolder(home, ""), profile))
    return found


def keys_of_this_format(frozen: StoredKeys) -> StoredKeys:
    """Return stored keys.

    The result is empty if they belong to another version's file format.
    """
    return frozen if frozen.get("format") == _formats() else NONE


def stored_keys(folder: RunFolder) -> StoredKeys:
    """Return the keys that a run stored; none for a run of an older version."""
    try:
        inputs = read_config(folder.config).inputs
    except FileNotFoundError:
        return NONE
    return keys_of_this_format(inputs.keys if inputs else NONE)


def data_folder(home: Path, profile: Profile, stored_keys: StoredKeys = NONE) -> Path:
    """Return the output folder of stage `data`."""
    return home / "cache" / "data" / (stored_keys.get("data") or data_key(profile))


def traces_folder(home: Path, profile: Profile, stored_keys: StoredKeys = NONE) -> Path:
    """Return the output folder of stage `traces`."""
    return home / "cache" / "traces" / (stored_keys.get("traces") or traces_key(profile))


def answers_folder(home: Path, profile: Profile, stored_keys: StoredKeys = NONE) -> Path:
    """Return the folder of the journal of the teacher's answers.

    They are paid for once, and reused by every later use.
    """
    return home / "cache" / "answers" / (stored_keys.get("answers") or answers_key(profile))


def preprocess_folder(folder: RunFolder, profile: Profile, stored_keys: StoredKeys = NONE) -> Path:
    """Return the output folder of stage `preprocess`.

    For a made model it follows from the run's tokenizer.
    """
    key = stored_keys.get("preprocess") or preprocess_key(
        profile, tokenizer_source(folder, profile), stored_keys
    )
    return folder.home / "cache" / "preprocess" / key


def missing_input(home: Path, profile: Profile, stages: Sequence[str], stored_keys: StoredKeys = NONE) -> str:
    """Return in one line which output a planned stage lacks, or "".

    An output is missing if it neither exists nor is planned.

    Args:
        stages: the planned stages.
        stored_keys: keys that the run stored at its start; others are computed from the present inputs.
    """
    needs = {"traces": "data", "preprocess": "traces"} | dict.fromkeys(_AFTER_PREPROCESS, "preprocess")
    for stage in stages:
        before = needs.get(stage)
        if before is None or before in stages or _is_there(home, profile, before, stored_keys):
            continue
        return (
            f"stage {stage}: profile {profile.name} has no output of stage {before} in {home}; "
            f"run {before} too"
        )
    return ""


def _is_there(home: Path, profile: Profile, stage: str, stored_keys: StoredKeys) -> bool:
    if stage == "data":
        return data_folder(home, profile, stored_keys).is_dir()
    if stage == "traces":
        return traces_folder(home, profile, stored_keys).is_dir()
    if profile.model.source == "made":
        # Which one it is depends on the run's tokenizer.
        return any((home / "cache" / "preprocess").glob("*"))
    return preprocess_folder(RunFolder(home, ""), profile, stored_keys).is_dir()


def data_key(profile: Profile) -> str:
    """Return the key that rows and splits follow from.

    Raises: StageFailed if a source file is missing.
    """
    settings = profile.data.model_dump(exclude={"source"})
    return content_key([_FORMAT, settings, _files(profile), max(profile.eval.shots, default=0)])


def answers_key(profile: Profile) -> str:
    """Return the key that a teacher's answers follow from.

    It does not cover which of the source's questions are sent to the teacher.
    """
    asked = profile.traces.model_dump(include={"base_url", "model", "max_tokens", "temperature"})
    questions = [_files(profile), profile.data.train_rows, profile.data.seed]
    return content_key([_ANSWERS_FORMAT, questions, asked, profile.preprocess.system_prompt])


def traces_key(profile: Profile) -> str:
    """Return the key that traces follow from.

    It does not cover how fast or expensive they were.
    """
    settings = profile.traces
    if settings.source == "solutions":
        before = [data_key(profile), profile.preprocess.system_prompt]
        return content_key([_FORMAT, "solutions", before, settings.limit, settings.wrong_answers])
    made = settings.model_dump(include={"body", "samples", "limit", "wrong_answers", "max_failed"})
    return content_key([_FORMAT, data_key(profile), answers_key(profile), made])


def preprocess_key(profile: Profile, tokenizer: str, stored_keys: StoredKeys = NONE) -> str:
    """Return the key that sequences and prompts follow from.

    `tokenizer` is a model folder or hub name.
    """
    longest = profile.hardware.max_model_len - completion_limit(profile)
    asked = [profile.eval.templates, profile.eval.shots, longest, profile.traces.wrong_answers]
    identity = _tokenizer_identity(tokenizer, profile.model.revision)
    traces = stored_keys.get("traces") or traces_key(profile)
    return content_key([_FORMAT, traces, profile.preprocess.model_dump(), asked, identity])


def _formats() -> str:
    return f"{_FORMAT}.{_ANSWERS_FORMAT}"


def _files(profile: Profile) -> dict[str, str]:
    try:
        return dataset.fingerprint(profile)
    except DataError as error:
        raise StageFailed(str(error)) from None


def completion_limit(profile: Profile) -> int:
    """Return the longest completion that a stage requests, in tokens."""
    return max(profile.grpo.max_new_tokens, profile.eval.max_new_tokens)


def _tokenizer_identity(source: str, revision: str) -> Any:
    """Return what identifies a tokenizer.

    It is the hashes of a folder's tokenizer files, or name and revision of a hub model.
    """
    folder = Path(source)
    if not folder.is_dir():
        return [source, revision]
    files = (folder / name for name in TOKENIZER_FILES)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}
