"""Find the files of a split in a folder, and the part of it to use.

A split is named as on the hub: `train`, `test`, or a part, `train[:90%]`, `train[500:]`. Its files are, in
this order: SPLIT.jsonl in the folder; files and folders there with the split's name (`test.csv`,
`gsm8k_test.parquet`, `test/part-0.json`); the same in nested folders. In a path, the name closest to the rows
decides.
A folder that `save_to_disk` made of one data set is `train`. Hidden files and the caches in such a folder are
not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from engine.data.files import FORMS, READERS, DataError
from store.plain_json import parse

Item = TypeVar("Item")

_PART = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?\Z")
# Words in a path that identify a split, from the hub's own layout rules.
_WORDS = {
    "train": frozenset({"train", "training"}),
    "validation": frozenset({"validation", "valid", "val", "dev"}),
    "test": frozenset({"test", "testing", "eval", "evaluation"}),
}
# File that `datasets.save_to_disk` writes next to the rows.
STATE = "state.json"
_NO_ROWS = frozenset({STATE, "dataset_info.json", "dataset_dict.json", "dataset_infos.json"})


@dataclass(frozen=True, slots=True)
class SplitPart:
    """The rows `start:stop` of the split `name`.

    Each bound is a row number, a share such as "90%", or "" for the first or last row.
    """

    name: str
    start: str
    stop: str

    def of(self, rows: Sequence[Item]) -> list[Item]:
        """Return the rows of the slice."""
        return list(rows[_place(self.start, len(rows)) : _place(self.stop, len(rows))])


def part_of(split: str) -> SplitPart:
    """Parse the split and part that `split` names, for example "train[:90%]".

    Raises: DataError if it has another form.
    """
    found = _PART.match(split.strip())
    if found is None:
        raise DataError(f"data split {split!r}: write NAME, NAME[:90%] or NAME[500:]")
    return SplitPart(found["name"].strip(), found["start"] or "", found["stop"] or "")


def _place(text: str, rows: int) -> int | None:
    if not text:
        return None
    return round(int(text[:-1]) * rows / 100) if text.endswith("%") else int(text)


def files_of(source: Path, split: str, configs: Sequence[str]) -> list[Path]:
    """Return the files with the rows of `split`; the list may be empty.

    Args:
        source: a folder, or a single file.
        configs: subfolders to search instead of the whole folder.
    Raises: DataError if the files are ambiguous.
    """
    if source.is_file():
        return [source] if split in (_split_in([source.stem]) or "train", source.stem) else []
    found: list[Path] = []
    for folder in [source / config for config in configs] or [source]:
        if not folder.is_dir():
            raise DataError(f"data.config {folder.name}: no such folder in {source}; name one of its folders")
        found += _in_folder(folder, split)
    return found


def _in_folder(folder: Path, split: str) -> list[Path]:
    usual = [folder / f"{split}.jsonl", folder / split]
    for path in usual:
        if path.is_file():
            return [path]
    files = [path for path in sorted(folder.rglob("*")) if _has_rows(path, path.relative_to(folder))]
    held = [path for path in files if _holds(path.relative_to(folder), split)]
    if split == "train" and is_one_set(folder):
        held = files
    depth = min((len(path.parts) for path in held), default=0)
    nearest = [path for path in held if len(path.parts) == depth]
    forms = sorted({path.suffix for path in nearest})
    if len(forms) > 1:
        raise DataError(
            f"{folder}: the split {split} is there in several forms ({', '.join(forms)}); keep one of them, or name "
            f"the file: data.{'test' if split == 'test' else 'train'}_split={nearest[0].relative_to(folder)}"
        )
    return nearest


def _has_rows(path: Path, inside: Path) -> bool:
    """Return True if `path` holds rows and is neither hidden nor a cache.

    `inside` is the path relative to its folder.
    """
    is_hidden = any(part.startswith((".", "__")) for part in inside.parts)
    is_rows = path.suffix.lower() in READERS and path.name not in _NO_ROWS and path.is_file()
    return is_rows and not is_hidden and not _is_cache(path)


def _is_cache(path: Path) -> bool:
    """Return True if a state file lists only other files of the data set.

    The state file belongs to an Arrow file.
    `datasets` writes the result of each `map` and `filter` next to the rows that it was made from.
    """
    state = path.with_name(STATE)
    if path.suffix.lower() != ".arrow" or not state.is_file():
        return False
    try:
        listed = parse(state.read_bytes())["_data_files"]
        return path.name not in {entry["filename"] for entry in listed}
    except (ValueError, LookupError, TypeError):
        return False


def _holds(path: Path, split: str) -> bool:
    """Return True if the path's names name the split, innermost first."""
    names = [path.stem, *reversed(path.parts[:-1])]
    return split in names or _split_in(names) == split


def is_one_set(folder: Path) -> bool:
    """Return True if `folder` holds one data set without splits.

    That is the format that `Dataset.save_to_disk` of the `datasets` library writes.
    """
    return (folder / STATE).is_file()


def _split_in(names: Sequence[str]) -> str:
    """Return the split that one of `names` contains, or "".

    The first of `names` that contains a split's word counts.
    """
    for name in names:
        words = set(re.split(r"[^a-z]+", name.casefold()))
        for split, known in _WORDS.items():
            if words & known:
                return split
    return ""


def accepted(source: Path) -> str:
    """Return the accepted forms of local data, for messages."""
    return (
        f"give {source.name or source}/ with train and test as {FORMS}: files or folders with the name of their split "
        "(data.train_split and data.test_split choose others), each row with a question and an answer"
    )
