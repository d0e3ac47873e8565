"""Digests of the files of a checkpoint, checked before any of it is used.

    step_000050/digests.json    {"files": {"config.json": [SIZE, XXH3-128], …}, "format": 1, "self": XXH3-128}

The list is written last, before the folder gets its final name, and covers every other file in the folder. It
also covers itself, because its text has only one valid form. A folder without a list (an external model, a
checkpoint of an older version) is accepted without a check. The digest detects damage, not forgery: XXH3
reads 10 GB/s on one core, BLAKE2b 1 GB/s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import xxhash

LIST = "digests.json"
FORMAT = 1
# Bytes of one read.
CHUNK = 16 << 20
# Files that are read in parallel, because one reader does not saturate a fast disk.
READERS = 4


class DamagedFile(ValueError):
    """A file is missing, or its content has changed.

    The message gives the file and the fault.
    """

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{path} is damaged: {fault}")
        self.path = path
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Digest:
    """Size of a file in bytes, and XXH3-128 of its content in hexadecimal."""

    size: int
    xxh3: str


def digest(parts: Iterable[memoryview | bytes]) -> Digest:
    """Return the digest of the concatenated `parts`.

    The GIL is released, so that other threads can run.
    """
    state, size = xxhash.xxh3_128(), 0
    for part in parts:
        state.update(part)
        size += len(part)
    return Digest(size, state.hexdigest())


def file_digest(path: Path) -> Digest:
    """Return the digest of a file.

    Raises: OSError if it cannot be read.
    """
    state, size, buffer = xxhash.xxh3_128(), 0, memoryview(bytearray(CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            state.update(buffer[:count])
            size += count
    return Digest(size, state.hexdigest())


def write_list(folder: Path, known: Mapping[str, Digest]) -> None:
    """Write the list of all files in `folder`.

    Files in `known` are not read again.
    """
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    found = {name: known[name] if name in known else file_digest(folder / name) for name in names}
    found.pop(LIST, None)
    (folder / LIST).write_text(_text(found), encoding="utf-8")


def read_list(folder: Path) -> dict[str, Digest] | None:
    """Return the digests of `folder` by file name, or None if it has no list.

    Raises: DamagedFile if the list is not as it was written; OSError if it cannot be read.
    """
    path = folder / LIST
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        files = json.loads(raw)["files"]
        found = {name: Digest(size, xxh3) for name, (size, xxh3) in files.items()}
        is_whole = raw == _text(found).encode()
    except (ValueError, LookupError, TypeError, AttributeError):
        is_whole = False
    if not is_whole:
        raise DamagedFile(path, "it is not as it was written")
    return found


def check(folder: Path, concerns: Callable[[str], bool] = lambda name: True) -> None:
    """Compare the listed files that `concerns` accepts with their digests.

    Raises:
        DamagedFile: for the first file that is missing or differs.
        OSError: if a file cannot be read, which does not mean that it is damaged.
    """
    listed = read_list(folder) or {}
    names = sorted(name for name in listed if concerns(name))
    with ThreadPoolExecutor(READERS) as pool:
        for fault in pool.map(lambda name: _fault(folder / name, listed[name]), names):
            if fault is not None:
                raise fault


def of_model(name: str) -> bool:
    """Return True for a file of the model: weights, configuration, tokenizer.

    The trainer has others.
    """
    return not name.startswith(("trainer_", "weights_"))


def of_tokenizer(name: str) -> bool:
    """Return True for every file of the model except its weights."""
    return of_model(name) and not name.endswith(".safetensors")


def without(folder: Path, names: Collection[str]) -> str | None:
    """Return the list's text without `names`; None without a list."""
    listed = read_list(folder)
    if listed is None:
        return None
    return _text({name: each for name, each in listed.items() if name not in names})


def _fault(path: Path, expected: Digest) -> DamagedFile | None:
    try:
        size = path.stat().st_size
        if size != expected.size:
            return DamagedFile(path, f"it holds {size} bytes, {expected.size} were written")
        if file_digest(path) != expected:
            return DamagedFile(path, "its bytes are not those that were written (XXH3-128 differs)")
    except FileNotFoundError:
        return DamagedFile(path, "the file is missing")
    return None


def _text(files: Mapping[str, Digest]) -> str:
    """Return the only valid text of a list.

    It is sorted, has no blanks, and holds the digest of its content.
    """
    content = {"files": {name: [each.size, each.xxh3] for name, each in files.items()}, "format": FORMAT}
    whole = content | {"self": digest([_spelling(content).encode()]).xxh3}
    return _spelling(whole)


def _spelling(content: Mapping[str, object]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
