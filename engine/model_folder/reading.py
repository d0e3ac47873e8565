"""Read a model folder without torch: JSON and safetensors headers.

A file that cannot be read raises FolderFault with one line: the file, the fault and the remedy.
Format of a safetensors file: 8 bytes (header length N, little endian), N bytes of JSON, then the tensors'
bytes.
Source: the format's specification, https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LENGTH_BYTES = 8
# Bytes; the limit of the safetensors library.
LONGEST_HEADER = 100_000_000
COPY_AGAIN = "copy the file again from its source"


class FolderFault(ValueError):
    """A model folder that the engine cannot use; the message is one line."""


class Unavailable(FolderFault):
    """A model that is not on this machine and may not be downloaded."""


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """A tensor as described by a safetensors header.

    `dtype` is the format's own name: F32, BF16, I8, …
    """

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelFolder:
    """A model folder.

    With `partial` it may lack files, because they are not downloaded yet.
    """

    path: Path
    partial: bool = False

    def has(self, name: str) -> bool:
        """Return True if the folder holds a file `name`.

        Raises: FolderFault if the folder cannot be searched.
        """
        try:
            return (self.path / name).is_file()
        except OSError as error:
            raise FolderFault(_unreadable(name, error)) from None

    @cached_property
    def config(self) -> dict[str, Any]:
        """Content of config.json."""
        return read_object(self.path / "config.json")

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """Content of tokenizer_config.json; empty if the file does not exist."""
        return self.optional("tokenizer_config.json")

    def optional(self, name: str) -> dict[str, Any]:
        """Return the table in JSON file `name`.

        The result is empty if the folder has no such file.
        """
        return read_object(self.path / name) if self.has(name) else {}

    def count(self, field: str) -> int | None:
        """Return the whole number in `field` of config.json; None if it has none.

        Raises: FolderFault if it is not a positive whole number.
        """
        value = self.config.get(field)
        if value is None or (type(value) is int and value > 0):
            return value
        raise FolderFault(f"config.json: {field} is {value!r}, not a positive whole number; correct it")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON table in `path`.

    Raises: FolderFault if it cannot be read or is something else.
    """
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, FolderFault):
            raise
        raise FolderFault(f"{path.name}: not valid JSON ({_first_line(error)}); {COPY_AGAIN}") from None
    if not isinstance(found, dict):
        kind = "a list" if isinstance(found, list) else repr(found)[:40]
        raise FolderFault(f"{path.name}: expected a table, found {kind}; {COPY_AGAIN}")
    return found


def read_text(path: Path) -> str:
    """Return the text of `path`.

    Raises: FolderFault if it cannot be read, is a Git-LFS pointer or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FolderFault(_unreadable(path.name, error)) from None
    refuse_pointer(path.name, content)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FolderFault(f"{path.name}: not UTF-8 text ({error.reason}); {COPY_AGAIN}") from None


def check_start(path: Path) -> None:
    """Raise FolderFault if `path` cannot be read or is a Git-LFS pointer."""
    try:
        with path.open("rb") as file:
            refuse_pointer(path.name, file.read(len(LFS_POINTER)))
    except OSError as error:
        raise FolderFault(_unreadable(path.name, error)) from None


def read_header(path: Path) -> dict[str, TensorHeader]:
    """Return the tensors of a safetensors file by name.

    Raises: FolderFault unless header and size agree.
    """
    try:
        with path.open("rb") as file:
            start = file.read(max(LENGTH_BYTES, len(LFS_POINTER)))
            refuse_pointer(path.name, start)
            length = int.from_bytes(start[:LENGTH_BYTES], "little")
            file.seek(LENGTH_BYTES)
            content = file.read(length) if length <= LONGEST_HEADER else b""
        size = path.stat().st_size
    except OSError as error:
        raise FolderFault(_unreadable(path.name, error)) from None
    if len(start) < LENGTH_BYTES or len(content) < length:
        raise FolderFault(f"{path.name}: not a whole safetensors file ({size:,} bytes); {COPY_AGAIN}")
    return _tensors(path.name, content, size)


def refuse_pointer(name: str, start: bytes) -> None:
    """Raise FolderFault if `start` is the beginning of a Git-LFS pointer."""
    if start.startswith(LFS_POINTER):
        raise FolderFault(f"{name}: a Git-LFS pointer, not the file itself; run `git lfs pull` in the folder")


def _tensors(name: str, header: bytes, size: int) -> dict[str, TensorHeader]:
    try:
        table = json.loads(header)
        entries = {key: value for key, value in table.items() if key != "__metadata__"}
        ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
        tensors = {
            key: TensorHeader(str(entry["dtype"]), tuple(int(edge) for edge in entry["shape"]))
            for key, entry in entries.items()
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise FolderFault(f"{name}: not a safetensors file (unreadable header); {COPY_AGAIN}") from None
    whole = LENGTH_BYTES + len(header) + max(ends, default=0)
    if size != whole:
        raise FolderFault(f"{name}: {size:,} bytes, but its header describes {whole:,}; {COPY_AGAIN}")
    return tensors


def _unreadable(name: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{name}: missing; {COPY_AGAIN}"
    return f"{name}: cannot be read ({error.strerror}); check the file's owner and permissions"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
