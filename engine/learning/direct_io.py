"""Large files written past the page cache: from where the bytes lie to the disk, without a copy between, synced once.

A checkpoint is tens of gigabytes that nobody reads soon. Through the page cache each byte is copied again and the disk
waits for the kernel to write it back: on 2 cores a third to a quarter of the speed that the disk has.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from engine.digests import Digest, digest
from store.private import FILE_MODE

BLOCK = 4096  # bytes; what addresses, offsets and lengths of a direct write are multiples of
CHUNK = 16 << 20  # bytes a write
IN_FLIGHT = 4  # writes under way at a time: as fast as one where the disk is one, faster where it is many


def aligned(size: int) -> Tensor:
    """Host memory `(size,)` of bytes that may be written directly: it starts at a BLOCK. What is in it is not said."""
    room = torch.empty(size + BLOCK, dtype=torch.uint8)
    start = -room.data_ptr() % BLOCK
    return room[start : start + size]


def write_durably(path: Path, parts: Sequence[memoryview]) -> Digest:
    """Write `parts`, end to end, to a file, and return their digest when it is on the disk.

    Other threads run meanwhile.
    The digest is computed beside the writes: it tells what should be on the disk, whatever becomes of it there.
    Every part lies in `aligned` or mapped memory, and all but the last are as long as a number of BLOCKs. Where the
    file system knows no direct writing (tmpfs), it is written as any file.
    """
    descriptor = _create(path)
    try:
        size = sum(len(part) for part in parts)
        os.ftruncate(descriptor, size)  # so that writes in any order lie within the file
        with ThreadPoolExecutor(IN_FLIGHT + 1) as pool:
            found = pool.submit(digest, parts)
            for _ in pool.map(lambda chunk: _write(descriptor, *chunk), _chunks(parts)):
                pass
        os.ftruncate(descriptor, size)  # the last block was filled up
        os.fsync(descriptor)
        return found.result()
    finally:
        os.close(descriptor)


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_DIRECT, FILE_MODE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, flags, FILE_MODE)


def _chunks(parts: Sequence[memoryview]) -> list[tuple[int, memoryview]]:
    """Offsets in the file and what to write there, in whole BLOCKs."""
    chunks, offset = [], 0
    for part in parts:
        whole = len(part) - len(part) % BLOCK
        chunks += [
            (offset + start, part[start : min(start + CHUNK, whole)]) for start in range(0, whole, CHUNK)
        ]
        if whole < len(part):
            chunks.append((offset + whole, _filled_up(part[whole:])))
        offset += len(part)
    return chunks


def _filled_up(rest: memoryview) -> memoryview:
    block = mmap.mmap(-1, BLOCK)
    block[: len(rest)] = rest
    return memoryview(block)


def _write(descriptor: int, offset: int, chunk: memoryview) -> None:
    while chunk:
        written = os.pwrite(descriptor, chunk, offset)
        offset, chunk = offset + written, chunk[written:]
