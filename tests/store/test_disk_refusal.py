"""A disk that refuses a write is named with its free space and the remedy, whichever library met it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from mathrl_tui.cli import explained
from store import errors
from store.disk_refusal import errno_in, refusal, refusal_in
from store.errors import StoreFull
from store.query import Store
from tests.support.command_line import environment
from tests.support.fabricated import finished_run

WORDS = {
    errno.ENOSPC: "no space is left on its disk",
    errno.EDQUOT: "the disk quota of this user is used up",
    errno.EROFS: "its disk is read-only",
}


@pytest.mark.parametrize("number", WORDS)
def test_an_error_of_the_system_names_place_space_and_remedy(tmp_path: Path, number: int) -> None:
    path = tmp_path / "not" / "there"
    line = refusal(OSError(number, os.strerror(number), str(path)))
    assert line.startswith(f"{path}: cannot be written: {WORDS[number]} (")
    assert " free" in line and "or use another disk" in line
    # A write to an open file names none.
    assert refusal(OSError(number, os.strerror(number)), path) == line
    assert explained(OSError(number, os.strerror(number), str(path))) == (1, line)


@pytest.mark.parametrize("number", WORDS)
def test_duckdbs_words_and_those_of_cp_are_understood(tmp_path: Path, number: int) -> None:
    duck = duckdb.IOException(
        f'IO Error: Cannot open file "{tmp_path}/store.duckdb.wal": {os.strerror(number)}'
    )
    failure = errors.explained(duck)
    assert isinstance(failure, StoreFull)
    assert f"{tmp_path}/store.duckdb.wal: cannot be written: {WORDS[number]}" in str(failure)
    copied = f"cp: error copying '/nowhere/store.duckdb' to '{tmp_path}/store.duckdb': {os.strerror(number)}"
    assert refusal_in(copied).startswith(f"{tmp_path}/store.duckdb: cannot be written: {WORDS[number]}")


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    assert refusal(PermissionError(errno.EACCES, "Permission denied", str(tmp_path))) == ""
    assert errno_in("Conversion Error: a word is no number") == 0


def test_a_full_disk_under_the_commands(tmp_path: Path) -> None:
    """On a real file system of 12 MB, in a mount namespace of its own."""
    namespace = ["unshare", "-rm"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], check=False).returncode:
        pytest.skip("needs a user namespace to mount a small file system in")
    made, home = tmp_path / "made", tmp_path / "disk" / "home"
    for run_id in ("demo-s0-first", "demo-s1-second"):
        finished_run(made, run_id)
        (made / "runs" / run_id / "large").write_bytes(bytes(3_000_000))
    Store(made).catch_up()
    (tmp_path / "disk").mkdir()
    script = (
        f"mount -t tmpfs -o size=12m none {tmp_path}/disk && cp -r {made} {home} && "
        f"{{ head -c 50m /dev/zero > {tmp_path}/disk/fill 2>/dev/null; "
        f"{sys.executable} -m mathrl_tui sql 'SELECT 1'; echo $?; "
        f"{sys.executable} -m mathrl_tui rm demo-s0-first --yes; echo $?; "
        f"{sys.executable} -m mathrl_tui sql 'SELECT DISTINCT run_id AS run FROM run_event'; }}"
    )
    done = subprocess.run(
        [*namespace, "sh", "-c", script], env=environment(home), capture_output=True, text=True, check=False
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{home}/store.duckdb: cannot be copied: {home}/mathrl-copy-")
    assert "no space is left on its disk (0 bytes free); free some (`mathrl-tui gc`" in line
    lines = done.stdout.splitlines()
    # The run's own files were the room for the removal of its rows.
    assert lines[0] == "1" and "removed demo-s0-first" in done.stdout
    assert lines[-2:] == ["run", "demo-s1-second"]
