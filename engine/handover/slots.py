"""Slots: files in shared memory that each hold one version of the weights, and how a reader knows one is whole.

    mathrl-RUN-@PID.N        slot N of the publisher with process id PID: free, or being written
    mathrl-RUN-@PID.N.vV     the same file while it holds version V

A slot opens with a header (magic, state, version, manifest length, checksum), then a JSON manifest of the tensors,
then their bytes. It is published in one step by its new name, and given back by the old one, so a location names one
version or nothing at all; the header says the same once more for a reader that has the file mapped. No torch here.
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

from engine.handover.room import no_room
from store.private import FILE_MODE

SHARED_MEMORY = Path("/dev/shm")
ALIGNMENT = 256  # bytes; of each tensor
MANIFEST_ROOM = 1 << 20  # bytes before the first tensor
_MAGIC = b"MATHRLW1"
_HEADER = struct.Struct(
    "<8sQqQI"
)  # magic, state, version, manifest bytes, crc32 of the fields before and the manifest
_PARTIAL, _WHOLE = 0, 1


class TornWeights(Exception):
    """The location does not hold the version that was asked for, whole; the message names both."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a tensor lies in its slot: `offset` and `size` in bytes, `dtype` by torch's name."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


class Slot:
    """One file of shared memory, mapped for writing by its publisher."""

    def __init__(self, path: Path, size: int) -> None:
        """Make the file. Raises: OSError that names the limit if shared memory is too small for `size` bytes."""
        self.free_path = path
        self.path = path
        self.size = size
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise no_room(path.parent, size, error) from None
        with os.fdopen(descriptor, "rb+") as file:
            try:
                # A mapping that cannot be backed would be SIGBUS later.
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                path.unlink()
                raise no_room(path.parent, size, error) from None
            self.memory = mmap.mmap(file.fileno(), size)

    def begin(self) -> None:
        """Takes the published name away, if it has one, and marks the content as partial."""
        if self.path != self.free_path:
            self.path.rename(self.free_path)
            self.path = self.free_path
        self.memory[: _HEADER.size] = _HEADER.pack(_MAGIC, _PARTIAL, 0, 0, 0)

    def finish(self, arm: str, version: int, entries: list[Entry]) -> Path:
        """Publishes what was written since `begin`; returns the location."""
        rows = [[entry.name, entry.dtype, entry.shape, entry.offset, entry.size] for entry in entries]
        manifest = json.dumps({"arm": arm, "tensors": rows}).encode()
        if _HEADER.size + len(manifest) > MANIFEST_ROOM:
            raise ValueError(f"{len(entries)} tensors: their names take more than {MANIFEST_ROOM} bytes")
        self.memory[_HEADER.size : _HEADER.size + len(manifest)] = manifest
        self.memory[: _HEADER.size] = _header(_WHOLE, version, manifest)
        self.path = self.free_path.rename(self.free_path.with_name(f"{self.free_path.name}.v{version}"))
        return self.path

    def unlink(self) -> None:
        """Removes the file; a reader that has it mapped keeps its pages."""
        self.path.unlink(missing_ok=True)


def read_manifest(memory: mmap.mmap, arm: str, version: int, location: str) -> list[Entry]:
    """The tensors of a mapped slot; TornWeights unless it holds `version` of `arm`, whole."""
    wanted = f"version {version} of arm {arm!r} in {location}"
    if len(memory) < MANIFEST_ROOM:
        raise TornWeights(f"{wanted}: not a weight slot (too short)")
    magic, state, found, length, checksum = _HEADER.unpack(memory[: _HEADER.size])
    if magic != _MAGIC or length > MANIFEST_ROOM:
        raise TornWeights(f"{wanted}: not a weight slot")
    if state != _WHOLE:
        raise TornWeights(f"{wanted}: still being written, or its writer died")
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
        raise TornWeights(f"{wanted}: shorter than its manifest says")
    return entries


def open_slot(location: str) -> BinaryIO:
    """The file of a published slot; TornWeights where it is gone."""
    try:
        return Path(location).open("rb+")
    except FileNotFoundError as error:
        raise TornWeights(f"{location}: no such weights (freed, or their publisher is gone)") from error


def map_slot(file: BinaryIO, location: str) -> mmap.mmap:
    """A slot's memory, shared with its publisher; TornWeights where there is none."""
    if os.fstat(file.fileno()).st_size == 0:
        raise TornWeights(f"{location}: not a weight slot (empty)")
    return mmap.mmap(file.fileno(), 0)


def slot_path(run_id: str, number: int, folder: Path = SHARED_MEMORY) -> Path:
    """The free name of this process's slot `number`."""
    return folder / f"mathrl-{run_id}-@{os.getpid()}.{number}"


def remove_slots(run_id: str, folder: Path = SHARED_MEMORY) -> int:
    """Removes the slots of the run whose publisher is dead; returns how many.

    Those of a living one may be another run's: two homes can hold runs of one name, and there is one shared memory.
    """
    name = re.compile(re.escape(f"mathrl-{run_id}-@") + r"\d+\.\d+(\.v\d+)?")
    left = [path for path in folder.glob("mathrl-*") if name.fullmatch(path.name) and not is_of_living(path)]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def is_of_living(slot: Path) -> bool:
    """Whether the process that published `slot` is there. One that is dead and not yet waited for is not."""
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
