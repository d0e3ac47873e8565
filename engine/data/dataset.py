"""Where questions come from: the Hugging Face hub, a local folder, or the generator of word problems.

Every source gives the same: rows in a fixed order, split into train, validation and test by `data.seed` with none lost.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.rows import InputError, Row, checked_rows, read_jsonl_split, read_rows, write_jsonl
from engine.messages import derived_seed
from profiles import Profile

__all__ = [
    "InputError",
    "Row",
    "Source",
    "Splits",
    "check_source",
    "fingerprint",
    "load",
    "read_jsonl_split",
    "read_rows",
    "split",
    "write_jsonl",
]

WORD_PROBLEMS = "word-problems"
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")


@dataclass(frozen=True, slots=True)
class HubSet:
    """How a known hub data set is laid out; unknown ones are taken to have one configuration."""

    configurations: tuple[str | None, ...] = (None,)
    licence: str = "see its page on the hub"


HUB_SETS = {
    "openai/gsm8k": HubSet(("main",), "MIT"),
    "madrylab/gsm8k-platinum": HubSet(("main",), "CC BY-SA 4.0"),
    "EleutherAI/hendrycks_math": HubSet(
        (
            "algebra",
            "counting_and_probability",
            "geometry",
            "intermediate_algebra",
            "number_theory",
            "prealgebra",
            "precalculus",
        ),
        "MIT",
    ),
}
PLATINUM = "madrylab/gsm8k-platinum"
# sha256 of openai/grade-school-math's files, so that a local copy is known for what it is.
KNOWN_FILES = {
    "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465": "GSM8K train, MIT",
    "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14": "GSM8K test, MIT",
}


@dataclass(frozen=True, slots=True)
class Source:
    """What a source gave. `files` maps each file or hub split to its sha256 or commit."""

    train: list[Row]
    test: list[Row]
    origin: str
    licence: str
    files: dict[str, str]
    platinum: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Splits:
    """The rows of an experiment. `shots` are the worked examples of few-shot prompts, kept out of training."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]
    shots: list[Row]
    platinum: list[Row]


def check_source(profile: Profile) -> None:
    """Raises InputError before anything starts where the data cannot be used: reads local files whole."""
    data = profile.data
    if data.source == WORD_PROBLEMS:
        _check_size(profile, data.train_rows)
    elif _is_folder(data.source):
        folder = _folder(data.source)
        rows = read_jsonl_split(folder / "train.jsonl", data.max_row_characters)
        read_jsonl_split(folder / "test.jsonl", data.max_row_characters)
        _check_size(profile, len(rows))
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+|[\w.-]+", data.source):
        raise InputError(f"data.source {data.source!r}: neither a folder nor a hub name (OWNER/NAME)")


def fingerprint(profile: Profile) -> dict[str, str]:
    """What identifies the source's content without loading it: file hashes, hub revision, or the generator's code."""
    data = profile.data
    if data.source == WORD_PROBLEMS:
        return {"word_problems.py": _sha256(Path(__file__).with_name("word_problems.py"))}
    if _is_folder(data.source):
        folder = _folder(data.source)
        return {name: _sha256(folder / name) for name in ("train.jsonl", "test.jsonl")}
    return {data.source: data.revision}


def load(profile: Profile) -> Source:
    """Return every row of the profile's source, checked. Raises InputError."""
    data = profile.data
    if data.source == WORD_PROBLEMS:
        return _word_problems(profile)
    platinum = _hub_rows(PLATINUM, "main", "test", data.max_row_characters) if data.platinum else []
    if _is_folder(data.source):
        return _local(profile, platinum)
    known = HUB_SETS.get(data.source, HubSet())
    train, test = (
        _hub_rows(data.source, data.revision, part, data.max_row_characters) for part in ("train", "test")
    )
    commit = {data.source: _commit(data.source, data.revision)}
    return Source(
        train, test, f"https://huggingface.co/datasets/{data.source}", known.licence, commit, platinum
    )


def split(source: Source, profile: Profile) -> Splits:
    """Return disjoint train, validation, test and few-shot rows, chosen by `data.seed` and never by the run's seed.

    Together they are every row that the limits leave.
    """
    data = profile.data
    _check_size(profile, len(source.train))
    order = np.random.default_rng(derived_seed("split", data.seed)).permutation(len(source.train))
    shots = max(profile.eval.shots, default=0)
    held = data.validation_rows + shots
    validation, examples, train = (
        order[: data.validation_rows],
        order[data.validation_rows : held],
        order[held:],
    )
    if data.train_limit:
        train = train[: data.train_limit]
    return Splits(
        [source.train[row] for row in sorted(train)],
        [source.train[row] for row in sorted(validation)],
        source.test[: data.test_limit or None],
        [source.train[row] for row in examples],
        source.platinum,
    )


def _check_size(profile: Profile, rows: int) -> None:
    held = profile.data.validation_rows + max(profile.eval.shots, default=0)
    if rows <= held:
        raise InputError(
            f"data.validation_rows: {held} rows for validation and few-shot examples leave none of "
            f"{profile.data.source}'s {rows} for training; lower it"
        )


def _is_folder(source: str) -> bool:
    return source.startswith((".", "/", "~")) or Path(source).is_dir()


def _folder(source: str) -> Path:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise InputError(f"data.source {source}: no such folder; it should hold train.jsonl and test.jsonl")
    return folder


def _local(profile: Profile, platinum: list[Row]) -> Source:
    folder = _folder(profile.data.source)
    limit = profile.data.max_row_characters
    train, test = (read_jsonl_split(folder / f"{name}.jsonl", limit) for name in ("train", "test"))
    files = fingerprint(profile)
    known = [KNOWN_FILES[digest] for digest in files.values() if digest in KNOWN_FILES]
    licence = "; ".join(known) if len(known) == len(files) else _stated_licence(folder)
    return Source(train, test, str(folder.resolve()), licence, files, platinum)


def _stated_licence(folder: Path) -> str:
    for name in ("LICENSE", "LICENSE.txt", "LICENCE"):
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8", errors="replace").strip().partition("\n")[0]
    return "not stated in the folder"


def _word_problems(profile: Profile) -> Source:
    from engine.data.word_problems import problems

    data = profile.data
    train = problems(data.seed, data.train_rows, "train")
    test = problems(data.seed, data.test_rows, "test")
    return Source(
        train,
        test,
        "generated here (engine/data/word_problems.py) from templates, so runs of words repeat where problems do not",
        "MIT",
        fingerprint(profile),
    )


def _hub_rows(name: str, revision: str, part: str, max_characters: int) -> list[Row]:
    import datasets

    configurations = HUB_SETS.get(name, HubSet()).configurations
    records: list[tuple[str, Any]] = []
    for configuration in configurations:
        try:
            table = datasets.load_dataset(name, configuration, split=part, revision=revision)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            first = str(error).strip().partition("\n")[0]
            raise InputError(
                f"data.source {name} ({part}, revision {revision}): the hub did not give it: {first}; "
                "or name a local folder with train.jsonl and test.jsonl"
            ) from None
        records += [
            (f"{name}/{configuration or part}:{row + 1}", dict(record)) for row, record in enumerate(table)
        ]
    return checked_rows(records, part, max_characters, name)


def _commit(name: str, revision: str) -> str:
    """The commit that `revision` stands for; the revision itself where the hub cannot be asked."""
    if _COMMIT.match(revision):
        return revision
    import huggingface_hub

    from engine.data.hub import UNREACHABLE

    try:
        found: str | None = huggingface_hub.HfApi().dataset_info(name, revision=revision).sha
    except UNREACHABLE:
        found = None
    return found or revision


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def lengths(texts: Sequence[str]) -> dict[str, float]:
    """Mean, median, 95th percentile and largest length of `texts`, in characters."""
    if not texts:
        return {"mean": 0.0, "median": 0.0, "p95": 0.0, "max": 0.0}
    sizes = np.array([len(text) for text in texts])
    median, high = np.percentile(sizes, [50, 95])
    return {
        "mean": round(float(sizes.mean()), 1),
        "median": float(median),
        "p95": float(high),
        "max": float(sizes.max()),
    }
