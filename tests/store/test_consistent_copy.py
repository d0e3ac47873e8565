"""A copy is made by another process, which must not outlive its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.consistent_copy import CopyFailed, copy


def test_a_file_is_copied_into_the_folder(tmp_path: Path) -> None:
    source, folder = tmp_path / "store", tmp_path / "copy"
    source.write_bytes(b"rows")
    folder.mkdir()
    copy([source, tmp_path / "missing"], folder)
    assert (folder / "store").read_bytes() == b"rows"


def test_a_folder_that_is_gone_does_not_become_a_file(tmp_path: Path) -> None:
    source, folder = tmp_path / "store", tmp_path / "copy"
    source.write_bytes(b"rows")
    with pytest.raises(CopyFailed, match="copy"):
        copy([source], folder)
    assert not folder.exists()
