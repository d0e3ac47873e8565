"""What a killed process has copied is taken away by the next one that copies; what a living one holds stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from store.scratch import FRESH_SECONDS, scratch_folder

HOLDER = """
import sys
from pathlib import Path
from store.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "store.duckdb").write_bytes(bytes(1000))
    print(folder, flush=True)
    sys.stdin.read()
"""


def _age(folder: Path) -> None:
    then = time.time() - 2 * FRESH_SECONDS
    os.utime(folder, (then, then))


def test_a_folder_goes_with_its_process_or_with_the_next_one(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    left = Path(holder.stdout.readline().strip())
    _age(left)
    with scratch_folder(tmp_path) as own:
        assert (left / "store.duckdb").exists()  # its holder lives
    assert not own.exists()
    holder.kill()
    holder.wait()
    assert left.exists()
    with scratch_folder(tmp_path):
        assert not left.exists()


def test_one_that_was_made_this_moment_is_left_alone(tmp_path: Path) -> None:
    fresh, other = tmp_path / "mathrl-copy-fresh", tmp_path / "mathrl-copy-other"
    fresh.mkdir()
    other.symlink_to(fresh)
    with scratch_folder(tmp_path):
        assert fresh.exists() and other.is_symlink()
    _age(fresh)
    with pytest.raises(ZeroDivisionError), scratch_folder(tmp_path) as own:
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == [other]
    assert not own.exists()
