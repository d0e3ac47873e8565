"""Ingestion on a full disk: refusals lose no rows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.journaled import journaled, scalars
from tests.support.places import ROOT

FULL_DISK = """
import sys
from pathlib import Path
from store.home import RunFolder
from store.journal import JournalWriter
from store.query import Store
from store.records import Scalar
home = Path(sys.argv[1])
store, acknowledged = Store(home), 0
(home / "ballast").write_bytes(bytes(6 << 20))
with JournalWriter(RunFolder(home, "r").journal) as journal:
    def append():
        first = acknowledged
        journal.append([Scalar("m", step, 1 / (step + 1), ts=1.0) for step in range(first, first + 2000)])
        return first + 2000
    acknowledged = append()
    assert store.catch_up() == 2000
    try:
        while True:
            acknowledged = append()
    except OSError:
        print("full")
    assert store.catch_up() == 0
    assert "no space" in store.problem, store.problem
    (home / "ballast").unlink()
    acknowledged = append()
store.catch_up()
assert store.problem == "", store.problem
with store.database.reading() as connection:
    counted = connection.execute("SELECT count(*), count(DISTINCT step), max(step) + 1 FROM store.scalar").fetchall()
assert counted == [(acknowledged,) * 3], (counted, acknowledged)
print("recovered")
"""


def test_a_full_disk_refuses_but_loses_nothing(tmp_path: Path) -> None:
    """On a real file system of 12 MB, in a mount namespace of its own."""
    namespace = ["unshare", "-rm"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], check=False).returncode:
        pytest.skip("needs a user namespace to mount a small file system in")
    home, script = tmp_path / "home", tmp_path / "full.py"
    home.mkdir()
    script.write_text(FULL_DISK)
    mount = f"mount -t tmpfs -o size=12m none {home} && exec {sys.executable} {script} {home}"
    done = subprocess.run(
        [*namespace, "sh", "-c", mount],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["full", "recovered"]


def test_a_store_that_could_not_be_made_leaves_nothing_on_the_full_disk(tmp_path: Path) -> None:
    journaled(tmp_path, scalars(10))
    limited = f"""
import resource
from pathlib import Path
from store.query import Store
store = Store(Path({str(tmp_path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
assert store.ingest() == 0
assert "no space is left on its disk" in store.problem, store.problem
"""
    subprocess.run([sys.executable, "-c", limited], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", "store.gate", "store.lock"]
