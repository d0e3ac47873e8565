"""Replacement of files: whole or not at all, private, and without leftovers."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from store import atomic
from store.atomic import replace_text, replacing


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_reader_sees_the_old_text_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "score.json"
    replace_text(path, "old")
    with replacing(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
        assert list(tmp_path.glob("*.json")) == [path]
    assert path.read_text() == "new"
    assert names(tmp_path) == ["score.json"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as draft:
        draft.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_an_error_before_the_draft_exists_is_the_one_that_is_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        replace_text(tmp_path / "absent" / "file", "text")


def test_a_text_is_private_whatever_a_killed_writer_left(tmp_path: Path) -> None:
    path = tmp_path / "marks.json"
    left = tmp_path / ".marks.json.part"
    left.write_text("half of a longer text")
    left.chmod(0o666)
    replace_text(path, "text")
    assert (path.read_text(), mode(path)) == ("text", 0o600)
    assert not left.exists()


def test_writers_of_the_same_file_do_not_share_a_draft(tmp_path: Path) -> None:
    path = tmp_path / "oom.json"
    with replacing(path, writer="-0") as first, replacing(path, writer="-1") as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert names(tmp_path) == ["oom.json"]


def test_a_link_is_replaced_as_a_link(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with replacing(tmp_path / "best") as link:
            link.symlink_to(name)
        assert (tmp_path / "best").readlink() == Path(name)


def test_only_durable_content_is_synced_file_before_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def sync(path: Path) -> None:
        synced.append((path.name, (tmp_path / "file").exists()))

    monkeypatch.setattr(atomic, "sync", sync)
    with replacing(tmp_path / "file", durable=False) as draft:
        draft.write_text("x")
    assert synced == []
    (tmp_path / "file").unlink()
    replace_text(tmp_path / "file", "x")
    assert synced == [(".file.part", False), (tmp_path.name, True)]
