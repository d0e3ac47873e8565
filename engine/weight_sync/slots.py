"""Slots: files in shared memory that each hold one version of the weights.

    mathrl-RUN-@PID.N        slot N of the publisher with process id PID: free, or being written
    mathrl-RUN-@PID.N.vV     the same file while it holds version V

A slot starts with a header (magic, state, version, manifest length, checksum). A JSON manifest of the tensors
and then their bytes follow. Renaming the file publishes it atomically, and the old name frees it. So a
location refers to one version or to nothing. The header repeats this for a reader that has the file mapped.
This module does not import torch.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine.weight_sync.room import no_room
from store.private import FILE_MODE

SHARED_MEMORY = Path("/dev/shm")
# Alignment of each tensor in bytes.
ALIGNMENT = 256
# Bytes before the first tensor.
MANIFEST_ROOM = 1 << 20
_MAGIC = b"MATHRLW1"
# Magic, state, version, manifest bytes, and crc32 of the fields before it and the manifest.
_HEADER = struct.Struct("<8sQqQI")
_PARTIAL, _WHOLE = 0, 1


class TornWeights(Exception):
    """The location does not hold the requested version, whole.

    The message gives both.
    """


@dataclass(frozen=True, slots=True)
class Entry:
    """Position of a tensor in its slot.

    `offset` and `size` are bytes; `dtype` is torch's name.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


class Slot:
    """One file of shared memory, mapped for writing by its publisher."""

    def __init__(self, path: Path, size: int) -> None:
        """Create the file.

        Raises: OSError that names the limit if shared memory is too small for `size` bytes.
        """
        self.free_path = path
        self.path = path
        self.size = size
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise no_room(path.parent, size, error) from None
        with os.fdopen(descriptor, "rb+") as file:
            try:
                # Reserve the memory now. A mapping without memory behind it would raise SIGBUS later.
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                path.unlink()
                raise no_room(path.parent, size, error) from None
            self.memory = mmap.mmap(file.fileno(), size)

    def begin(self) -> None:
        """Withdraw the published version, if any; mark the content as incomplete."""
        # Remove the name first: a reader that opens the slot from now on fails, instead of reading a mix.
        if self.path != self.free_path:
            self.path.rename(self.free_path)
            self.path = self.free_path
        self.memory[: _HEADER.size] = _HEADER.pack(_MAGIC, _PARTIAL, 0, 0, 0)

    def finish(self, arm: str, version: int, entries: list[Entry]) -> Path:
        """Publish what was written since `begin`; return the location.

        Raises: ValueError if the manifest is too long.
        """
        rows = [[entry.name, entry.dtype, entry.shape, entry.offset, entry.size] for entry in entries]
        manifest = json.dumps({"arm": arm, "tensors": rows}).encode()
        if _HEADER.size + len(manifest) > MANIFEST_ROOM:
            raise ValueError(f"{len(entries)} tensors: their names take more than {MANIFEST_ROOM} bytes")
        self.memory[_HEADER.size : _HEADER.size + len(manifest)] = manifest
        # The header comes last: it declares whole what is already written. The rename then makes it visible.
        self.memory[: _HEADER.size] = _header(_WHOLE, version, manifest)
        self.path = self.free_path.rename(self.free_path.with_name(f"{self.free_path.name}.v{version}"))
        return self.path

    def unlink(self) -> None:
        """Remove the file; a reader that has it mapped keeps its pages."""
        self.path.unlink(missing_ok=True)


def read_manifest(memory: mmap.mmap, arm: str, version: int, location: str) -> list[Entry]:
    """Return the tensors of a mapped slot.

    Raises: TornWeights unless it holds `version` of `arm`, whole.
    """
    wanted = f"version {version} of arm {arm!r} in {location}"
    if len(memory) < MANIFEST_ROOM:
        raise TornWeights(f"{wanted}: not a weight slot (too short)")
    magic, state, found, length, checksum = _HEADER.unpack(memory[: _HEADER.size])
    if magic != _MAGIC or length > MANIFEST_ROOM:
        raise TornWeights(f"{wanted}: not a weight slot")
    if state != _WHOLE:
        raise TornWeights(f"{wanted}: still being written, or its writer crashed")
    manifest = memory[_HEADER.size : _HEADER.size + length]
    if checksum != _checksum(state, found, manifest):
        raise TornWeights(f"{wanted}: checksum of its header does not match")
    content = json.loads(manifest)
    if (content["arm"], found) != (arm, version):
        raise TornWeights(f"{wanted}: holds version {found} of arm {content['arm']!r}")
    entries = [
        Entry(name, dtype, tuple(shape), at, size) for name, dtype, shape, at, size in content["tensors"]
    ]
    if entries and entries[-1].offset + entries[-1].size > len(memory):
        raise TornWeights(f"{wanted}: shorter than its manifest states")
    return entries


def open_slot(location: str) -> BinaryIO:
    """Open the file of a published slot.

    Raises: TornWeights if it does not exist.
    """
    try:
        return Path(location).open("rb+")
    except FileNotFoundError as error:
        raise TornWeights(f"{location}: no such weights (freed, or their publisher has exited)") from error


def map_slot(file: BinaryIO, location: str) -> mmap.mmap:
    """Map a slot's memory, shared with its publisher.

    Raises: TornWeights if the file is empty.
    """
    if os.fstat(file.fileno()).st_size == 0:
        raise TornWeights(f"{location}: not a weight slot (empty)")
    return mmap.mmap(file.fileno(), 0)


def slot_path(run_id: str, number: int, folder: Path = SHARED_MEMORY) -> Path:
    """Return the name of this process's slot `number` while it is free."""
    return folder / f"mathrl-{run_id}-@{os.getpid()}.{number}"


def remove_slots(run_id: str, folder: Path = SHARED_MEMORY) -> int:
    """Remove the run's slots that dead publishers left; return how many.

    Slots of a live publisher may belong to another run: two homes can hold runs with the same name, and they
    share one memory.
    """
    name = re.compile(re.escape(f"mathrl-{run_id}-@") + r"\d+\.\d+(\.v\d+)?")
    left = [path for path in folder.glob("mathrl-*") if name.fullmatch(path.name) and not is_of_living(path)]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def is_of_living(slot: Path) -> bool:
    """Return True if the process that published `slot` is alive.

    A zombie counts as dead.
    """
    pid = slot.name.rpartition("-@")[2].partition(".")[0]
    try:
        status = Path("/proc", pid, "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def _header(state: int, version: int, manifest: bytes) -> bytes:
    return _HEADER.pack(_MAGIC, state, version, len(manifest), _checksum(state, version, manifest))


def _checksum(state: int, version: int, manifest: bytes) -> int:
    return zlib.crc32(manifest, zlib.crc32(struct.pack("<QqQ", state, version, len(manifest))))
