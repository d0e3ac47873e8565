"""Writing past the page cache: the file holds the bytes, whatever their number, and is synced once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from engine.training import direct_io
from engine.training.direct_io import BLOCK, CHUNK, aligned, write_durably


def random_bytes(size: int) -> memoryview:
    memory = aligned(size)
    memory.random_(0, 256, generator=torch.Generator().manual_seed(size))
    return memory.numpy().data


@pytest.mark.parametrize(
    "sizes",
    [(0,), (1,), (BLOCK,), (BLOCK, 0), (2 * BLOCK, BLOCK + 1), (BLOCK, 2 * CHUNK + BLOCK - 1)],
    ids=str,
)
def test_the_file_is_the_parts_end_to_end(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    parts = [random_bytes(size) for size in sizes]
    path = tmp_path / "file"
    path.write_bytes(b"longer than what comes" * 1000)
    write_durably(path, parts)
    assert path.read_bytes() == b"".join(parts)


def test_a_file_system_without_direct_writes_gets_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuses(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flags, mode)

    monkeypatch.setattr(direct_io.os, "open", refuses)
    part = random_bytes(3 * BLOCK + 5)
    write_durably(tmp_path / "file", [part])
    assert (tmp_path / "file").read_bytes() == part


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"No such file or directory: '{tmp_path}/absent/file'"):
        write_durably(tmp_path / "absent" / "file", [random_bytes(1)])


def test_it_is_synced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(direct_io.os, "fsync", synced.append)
    write_durably(tmp_path / "file", [random_bytes(2 * CHUNK)])
    assert len(synced) == 1
