"""Stores and journals of earlier versions: read, taken in and written on, with what they did not record left open."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from store.export import export
from store.home import RunFolder
from store.journal import read
from store.query import Store
from store.records import Example
from tests.support.journaled import RUN, journaled

LATER = ("finish", "prompt_cut", "window_tokens")  # columns that version 2 lacked
# One row as version 2 journaled it: fields in its order, floats as base64 of little-endian doubles.
OLD_ROW = [["sft"], [5], ["gsm8k"], ["q1"], [0], [False], "AAAAAAAAAAA=", ["truncated"], ["p"], ["o"], [12], ["7"],
           [""], "AAAAAAAAEEA="]  # fmt: skip
OLD = Example("sft", 5, "gsm8k", "q1", 0, False, 0.0, "truncated", "p", "o", 12, "7", "", ts=4.0)
NEW = Example("sft", 5, "gsm8k", "q2", 0, True, 1.0, "correct", "p", "o", 16, "7", "7", 5.0, "length")


def old_journal(home: Path) -> Path:
    body = json.dumps([2, [["example", *OLD_ROW]]], separators=(",", ":")).encode()
    folder = RunFolder(home, RUN).journal
    folder.mkdir(parents=True)
    (folder / "1.j").write_bytes(b"%08x %b\n" % (zlib.crc32(body), body))
    return folder


def drop_later_columns(home: Path) -> None:
    """Makes the file one of version 2, in another process: this one may not open it."""
    code = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute(sys.argv[2])"
    statements = ";".join(f"ALTER TABLE eval_row DROP COLUMN {name}" for name in LATER)
    subprocess.run([sys.executable, "-c", code, home / "store.duckdb", statements], check=True)


def test_a_journal_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    assert read(old_journal(tmp_path))[0] == [OLD]


def test_old_and_new_rows_are_taken_in_together(tmp_path: Path) -> None:
    old_journal(tmp_path)
    journaled(tmp_path, [NEW])
    store = Store(tmp_path)
    assert store.ingest() == 2
    assert store.examples(RUN, "sft") == [OLD, NEW]
    (row,) = store.evaluations(RUN)
    assert (row.n, row.cut_off, row.no_answer) == (2, None, 1)  # how the old completion ended is not known


def test_a_file_of_an_earlier_version_is_read_and_written_on(tmp_path: Path) -> None:
    old_journal(tmp_path)
    Store(tmp_path).ingest()
    drop_later_columns(tmp_path)
    store = Store(tmp_path)
    assert store.examples(RUN, "sft") == [OLD]
    journaled(tmp_path, [NEW])
    assert store.ingest() == 1
    assert store.examples(RUN, "sft") == [OLD, NEW]
    assert store.sql("SELECT finish, prompt_cut, window_tokens FROM eval_row")[1] == [
        ("", 0, 0),
        ("length", 0, 0),
    ]


def test_a_file_that_cannot_be_written_is_still_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_journal(tmp_path)
    Store(tmp_path).ingest()
    drop_later_columns(tmp_path)
    monkeypatch.setattr("os.access", lambda *_: False)
    store = Store(tmp_path)
    with store.database.copied() as connection:
        assert connection.execute("SELECT ex_id, finish FROM store.eval_row").fetchall() == [("q1", "")]
    (path,) = export(Store(tmp_path), [RUN], ["examples"], "csv", tmp_path / "out")
    assert path.read_text().count("\n") == 2
