"""Load questions from the Hugging Face hub, local files, or word problems.

Every source returns the same: rows in a fixed order, split into train, validation and test by `data.seed`. No
row is lost.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.code_hash import code_hash
from engine.data.rows import DataError, DataRow, checked_rows, read_rows, read_split, write_jsonl
from engine.data.split_files import accepted, files_of, is_one_set, part_of
from engine.protocol.messages import derived_seed
from profiles.schema import Profile
from profiles.stages import TRAINING

__all__ = [
    "DataError",
    "DataRow",
    "SourceRows",
    "Splits",
    "check_source",
    "fingerprint",
    "load",
    "read_rows",
    "read_split",
    "split",
    "write_jsonl",
]

WORD_PROBLEMS = "word-problems"
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")


@dataclass(frozen=True, slots=True)
class HubSet:
    """Configurations (None: the default one) and licence of a hub data set."""

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
# sha256 of openai/grade-school-math's files, to recognise a local copy.
KNOWN_FILES = {
    "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465": "GSM8K train, MIT",
    "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14": "GSM8K test, MIT",
}


@dataclass(frozen=True, slots=True)
class SourceRows:
    """All rows of a data source (`origin`: its path or address).

    `files` maps each file path or hub name to its sha256 or commit. `train` and `platinum` may be empty.
    """

    train: list[DataRow]
    test: list[DataRow]
    origin: str
    licence: str
    files: dict[str, str]
    platinum: list[DataRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Splits:
    """The rows of an experiment.

    `shots` are the worked examples of few-shot prompts, which are not trained on.
    """

    train: list[DataRow]
    validation: list[DataRow]
    test: list[DataRow]
    shots: list[DataRow]
    platinum: list[DataRow]


def check_source(profile: Profile, stages: Collection[str] = ()) -> None:
    """Check, before anything starts, that `stages` can use the data.

    Local files are read completely.
    Raises: DataError if they cannot.
    """
    data = profile.data
    if data.source == WORD_PROBLEMS:
        _check_size(profile, data.train_rows)
    elif _is_local(data.source):
        train, test = _local_rows(profile)
        check_rows(profile, train, test, stages)
        _check_size(profile, len(train))
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+|[\w.-]+", data.source):
        raise DataError(
            f"data.source {data.source!r}: neither a folder nor a hub name (OWNER/NAME) nor a file; correct it"
        )


def check_rows(
    profile: Profile, train: Sequence[DataRow], test: Sequence[DataRow], stages: Collection[str]
) -> None:
    """Check that `stages` can train on the training rows.

    Raises: DataError if one cannot, or if the rows belong to the test split.
    """
    data, trained = profile.data, [stage for stage in TRAINING if stage in stages]
    if trained and not train:
        raise DataError(
            f"data.source {data.source}: has no split {data.train_split!r} for stage {trained[0]}; choose one with "
            "data.train_split (a part of another one: 'test[:80%]', with data.test_split='test[80%:]'), or run "
            "data, preprocess and eval alone"
        )
    bare = [row.ex_id for row in train if not row.solution]
    if bare and "sft" in stages and profile.traces.source == "solutions":
        raise DataError(
            f"data.source {data.source}: {len(bare):,} of {len(train):,} training rows have an answer alone (first: "
            f"{bare[0]}), and stage sft learns from worked solutions; add a column 'solution', ask a teacher "
            "(traces.source=api), or leave sft out: grpo and eval need answers alone"
        )
    _check_apart(profile, train, test, trains=bool(trained))


def fingerprint(profile: Profile) -> dict[str, str]:
    """Return what identifies the source's content without loading it.

    It is the files' hashes, the hub revision, or the hash of the word problems' code.
    """
    data = profile.data
    if data.source == WORD_PROBLEMS:
        return {"word_problems.py": code_hash(Path(__file__).with_name("word_problems.py"))}
    if _is_local(data.source):
        source = _local_source(data.source)
        files = [path for split in (data.train_split, data.test_split) for path in _files(profile, split)]
        return {
            str(path.relative_to(source) if path != source else path.name): file_hash(path) for path in files
        }
    return {" ".join((data.source, *data.config)): data.revision}


def load(profile: Profile) -> SourceRows:
    """Read, load from the hub or make every row of the profile's source.

    Raises: DataError if rows, splits or files are missing or faulty.
    """
    data = profile.data
    if data.source == WORD_PROBLEMS:
        return _word_problems(profile)
    platinum: list[DataRow] = []
    if data.platinum:
        configurations = HUB_SETS.get(PLATINUM, HubSet()).configurations
        platinum = _hub_rows(PLATINUM, "main", "test", data.max_row_characters, configurations) or []
    if _is_local(data.source):
        return _local(profile, platinum)
    known = HUB_SETS.get(data.source, HubSet())
    train, test = (_hub_split(profile, split) for split in (data.train_split, data.test_split))
    if test is None:
        raise DataError(
            f"data.source {data.source}: the hub set has no split {data.test_split!r}; set data.test_split to one of "
            f"its splits, or to a part ('train[90%:]', with data.train_split='train[:90%]')"
        )
    commit = {data.source: _commit(data.source, data.revision)}
    where = f"https://huggingface.co/datasets/{data.source}"
    return SourceRows(train or [], test, where, known.licence, commit, platinum)


def split(source: SourceRows, profile: Profile) -> Splits:
    """Split `source` into disjoint train, validation, test and few-shot rows.

    `data.seed` decides, never the run's seed. Raises: DataError if there are too few rows for all splits.
    """
    data = profile.data
    _check_size(profile, len(source.train))
    if not source.train:
        return Splits([], [], source.test[: data.test_limit or None], [], source.platinum)
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
    if not rows:
        _check_no_shots(profile)
        return
    held = profile.data.validation_rows + max(profile.eval.shots, default=0)
    if rows <= held:
        raise DataError(
            f"data.validation_rows: {held} rows for validation and few-shot examples leave none of "
            f"{profile.data.source}'s {rows} for training; lower it"
        )


def _check_no_shots(profile: Profile) -> None:
    if max(profile.eval.shots, default=0):
        raise DataError(
            f"eval.shots: worked examples come from the split {profile.data.train_split!r}, which "
            f"{profile.data.source} does not have; set eval.shots=0"
        )


def _check_apart(profile: Profile, train: Sequence[DataRow], test: Sequence[DataRow], trains: bool) -> None:
    """Raise DataError if training or example rows are in the test split."""
    data, name = profile.data, part_of(profile.data.train_split).name
    if name != part_of(data.test_split).name:
        return
    shared = {row.ex_id for row in train} & {row.ex_id for row in test}
    if shared and (trains or any(profile.eval.shots)):
        raise DataError(
            f"data.train_split {data.train_split} and data.test_split {data.test_split} share {len(shared):,} rows "
            f"(first: {min(shared)}); give parts that do not overlap, such as '{name}[:90%]' and '{name}[90%:]'"
        )


def _is_local(source: str) -> bool:
    return source.startswith((".", "/", "~")) or Path(source).exists()


def _local_source(source: str) -> Path:
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"data.source {source}: no such folder or file; {accepted(path)}")
    return path


def _files(profile: Profile, split: str) -> list[Path]:
    return files_of(_local_source(profile.data.source), part_of(split).name, profile.data.config)


def _local_split(profile: Profile, split: str) -> list[DataRow]:
    """Return the rows of a split or of a part of it; none if it is missing."""
    files, part = _files(profile, split), part_of(split)
    if not files:
        return []
    rows = part.of(read_split(files, part.name, profile.data.max_row_characters))
    if not rows:
        raise DataError(f"data.source {profile.data.source}: the part {split} holds no rows; choose another")
    return rows


def _local_rows(profile: Profile) -> tuple[list[DataRow], list[DataRow]]:
    """Return train and test.

    A source without a training split can still be evaluated.
    """
    data = profile.data
    train, test = (_local_split(profile, split) for split in (data.train_split, data.test_split))
    if test:
        return train, test
    source = _local_source(data.source)
    hint = (
        "; its one split is 'train': data.test_split=train evaluates on it, data.train_split='train[:90%]' with "
        "data.test_split='train[90%:]' divides it"
        if train and (source.is_file() or is_one_set(source))
        else f"; {accepted(source)}"
    )
    raise DataError(f"data.source {data.source}: no split {data.test_split!r} there{hint}")


def _local(profile: Profile, platinum: list[DataRow]) -> SourceRows:
    source = _local_source(profile.data.source)
    train, test = _local_rows(profile)
    files = fingerprint(profile)
    known = [KNOWN_FILES[digest] for digest in files.values() if digest in KNOWN_FILES]
    folder = source if source.is_dir() else source.parent
    licence = "; ".join(known) if len(known) == len(files) else _stated_licence(folder)
    return SourceRows(train, test, str(source.resolve()), licence, files, platinum)


def _stated_licence(folder: Path) -> str:
    for name in ("LICENSE", "LICENSE.txt", "LICENCE"):
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8", errors="replace").strip().partition("\n")[0]
    return "not stated in the folder"


def _word_problems(profile: Profile) -> SourceRows:
    from engine.data.word_problems import problems

    data = profile.data
    train = problems(data.seed, data.train_rows, "train")
    test = problems(data.seed, data.test_rows, "test")
    return SourceRows(
        train,
        test,
        "generated here (engine/data/word_problems.py) from templates, so runs of words repeat where problems do not",
        "MIT",
        fingerprint(profile),
    )


def _hub_split(profile: Profile, split: str) -> list[DataRow] | None:
    """Return the rows of a hub set's split or part; None if it is missing."""
    data, part = profile.data, part_of(split)
    configurations = data.config or HUB_SETS.get(data.source, HubSet()).configurations
    rows = _hub_rows(data.source, data.revision, part.name, data.max_row_characters, configurations)
    return None if rows is None else part.of(rows)


def _hub_rows(
    name: str,
    revision: str,
    split: str,
    max_characters: int,
    configurations: Sequence[str | None] = (None,),
) -> list[DataRow] | None:
    import datasets

    records: list[tuple[str, Any]] = []
    for configuration in configurations:
        try:
            table = datasets.load_dataset(name, configuration, split=split, revision=revision)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            first = str(error).strip().partition("\n")[0]
            if first.startswith("Unknown split"):
                return None
            raise DataError(
                f"data.source {name} ({split}, revision {revision}): the hub did not provide it: {first}; "
                "see data.config, data.train_split and data.test_split, or choose a local folder"
            ) from None
        records += [
            (f"{name}/{configuration or split}:{row + 1}", dict(record)) for row, record in enumerate(table)
        ]
    return checked_rows(records, split, max_characters, name)


def _commit(name: str, revision: str) -> str:
    """Return the commit of `revision`; itself if the hub does not answer."""
    if _COMMIT.match(revision):
        return revision
    import huggingface_hub

    from engine.data.hub import UNREACHABLE

    try:
        found: str | None = huggingface_hub.HfApi().dataset_info(name, revision=revision).sha
    except UNREACHABLE:
        found = None
    return found or revision


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises: DataError if it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; check its permissions") from None


def lengths(texts: Sequence[str]) -> dict[str, float]:
    """Return mean, median, p95 and max of the lengths in characters; or 0s."""
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
