"""Where the outputs of data, traces and preprocess lie: HOME/cache/STAGE/HASH, by everything that they follow from.

The hash covers settings, `data.seed`, source files, tokenizer and the outputs before it, so that an output is made
once and shared by all runs that need the same one, whatever the runs' own seeds. Imports no torch: the launcher
looks here before a run starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.arms import tokenizer_source
from engine.context import StageFailed
from engine.data import dataset
from engine.data.cache import content_key
from engine.data.dataset import InputError
from profiles import Profile
from store.home import RunFolder

# The format of the files in these folders; a new number makes new folders.
_FORMAT = 3
# Answers that were paid for stay where they are as long as they can be read.
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
_AFTER_PREPROCESS = ("sft", "grpo", "eval")


# Keys that a run froze when it started, by stage. Where one is missing it is computed from what there is now.
Kept = Mapping[str, str]
NONE: Kept = {}


def keys(home: Path, profile: Profile) -> dict[str, str]:
    """Return the keys of the outputs that a run of `profile` will use, to be frozen: what they follow from may move.

    A made model's tokenizer does not exist yet, so that its key of preprocess is missing.
    """
    found = {"format": _formats(), "data": data_key(profile), "answers": answers_key(profile)}
    found["traces"] = traces_key(profile)
    if profile.model.source != "made":
        found["preprocess"] = preprocess_key(profile, tokenizer_source(RunFolder(home, ""), profile))
    return found


def of_format(frozen: Kept) -> Kept:
    """Return frozen keys, or none if they are those of another version's files."""
    return frozen if frozen.get("format") == _formats() else NONE


def kept(folder: RunFolder) -> Kept:
    """Return the keys that a run has frozen; none for one of an older version."""
    try:
        config = json.loads(folder.config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return NONE
    return of_format(config.get("inputs", {}).get("keys", NONE))


def data_folder(home: Path, profile: Profile, kept: Kept = NONE) -> Path:
    """Where the stage `data` leaves its output."""
    return home / "cache" / "data" / (kept.get("data") or data_key(profile))


def traces_folder(home: Path, profile: Profile, kept: Kept = NONE) -> Path:
    """Where the stage `traces` leaves its output."""
    return home / "cache" / "traces" / (kept.get("traces") or traces_key(profile))


def answers_folder(home: Path, profile: Profile, kept: Kept = NONE) -> Path:
    """Where `traces` journals the teacher's answers: paid for once, whatever is made of them later."""
    return home / "cache" / "answers" / (kept.get("answers") or answers_key(profile))


def preprocess_folder(folder: RunFolder, profile: Profile, kept: Kept = NONE) -> Path:
    """Where the stage `preprocess` leaves its output; for a made model that follows from the run's tokenizer."""
    key = kept.get("preprocess") or preprocess_key(profile, tokenizer_source(folder, profile), kept)
    return folder.home / "cache" / "preprocess" / key


def missing_input(home: Path, profile: Profile, stages: Sequence[str], kept: Kept = NONE) -> str:
    """One line where a planned stage needs an output that is neither there nor planned; "" where all is well."""
    needs = {"traces": "data", "preprocess": "traces"} | dict.fromkeys(_AFTER_PREPROCESS, "preprocess")
    for stage in stages:
        before = needs.get(stage)
        if before is None or before in stages or _is_there(home, profile, before, kept):
            continue
        return (
            f"stage {stage}: profile {profile.name} has no output of stage {before} in {home}; "
            f"run {before} too"
        )
    return ""


def _is_there(home: Path, profile: Profile, stage: str, kept: Kept) -> bool:
    if stage == "data":
        return data_folder(home, profile, kept).is_dir()
    if stage == "traces":
        return traces_folder(home, profile, kept).is_dir()
    if profile.model.source == "made":
        return any((home / "cache" / "preprocess").glob("*"))  # which one is known with the run's tokenizer
    return preprocess_folder(RunFolder(home, ""), profile, kept).is_dir()


def data_key(profile: Profile) -> str:
    """What rows and splits follow from. StageFailed where a source file is gone."""
    settings = profile.data.model_dump(exclude={"source"})
    return content_key([_FORMAT, settings, _files(profile), max(profile.eval.shots, default=0)])


def answers_key(profile: Profile) -> str:
    """What a teacher's answers follow from; which of the source's questions are asked of it is no part of that."""
    asked = profile.traces.model_dump(include={"base_url", "model", "max_tokens", "temperature"})
    questions = [_files(profile), profile.data.train_rows, profile.data.seed]
    return content_key([_ANSWERS_FORMAT, questions, asked, profile.preprocess.system_prompt])


def traces_key(profile: Profile) -> str:
    """What traces follow from. How fast or dear they were to get is no part of it."""
    settings = profile.traces
    if settings.source == "solutions":
        before = [data_key(profile), profile.preprocess.system_prompt]
        return content_key([_FORMAT, "solutions", before, settings.limit, settings.wrong_answers])
    made = settings.model_dump(include={"body", "samples", "limit", "wrong_answers", "max_failed"})
    return content_key([_FORMAT, data_key(profile), answers_key(profile), made])


def preprocess_key(profile: Profile, tokenizer: str, kept: Kept = NONE) -> str:
    """What sequences and prompts follow from; `tokenizer` is a model folder or hub name."""
    longest = profile.hardware.max_model_len - completion_limit(profile)
    asked = [profile.eval.templates, profile.eval.shots, longest, profile.traces.wrong_answers]
    identity = _tokenizer_identity(tokenizer, profile.model.revision)
    traces = kept.get("traces") or traces_key(profile)
    return content_key([_FORMAT, traces, profile.preprocess.model_dump(), asked, identity])


def _formats() -> str:
    return f"{_FORMAT}.{_ANSWERS_FORMAT}"


def _files(profile: Profile) -> dict[str, str]:
    try:
        return dataset.fingerprint(profile)
    except InputError as error:
        raise StageFailed(str(error)) from None


def completion_limit(profile: Profile) -> int:
    """The longest completion that a stage asks for, in tokens."""
    return max(profile.grpo.max_new_tokens, profile.eval.max_new_tokens)


def _tokenizer_identity(source: str, revision: str) -> Any:
    """Hashes of a folder's tokenizer files; name and revision of a hub model."""
    folder = Path(source)
    if not folder.is_dir():
        return [source, revision]
    files = (folder / name for name in TOKENIZER_FILES)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}
