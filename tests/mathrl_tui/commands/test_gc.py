"""`gc`: it removes what nothing needs, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.cleanup import garbage, removal
from engine.cleanup.disk_usage import measure, readable
from engine.cleanup.removal import remove_runs
from engine.data import locations
from profiles.load import load
from store.home import REMOVED, RunFolder
from store.journal import JournalWriter
from store.query import Store
from store.records import Scalar
from tests.support.command_line import Terminal, mathrl
from tests.support.fabricated import FabricatedRun
from tests.support.removable_home import A, B, everything, fill, ids, make_run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two finished runs."""
    for run_id in (A, B):
        make_run(tmp_path / "home", run_id)
    return tmp_path / "home"


def real_run(home: Path, run_id: str, seed: int) -> RunFolder:
    """A run whose configuration is whole: it freezes what it uses of the cache, under data.seed `seed`."""
    profile = load("demo", [f"data.seed={seed}"])
    frozen = {"inputs": {"keys": locations.keys(home, profile)}, "folder": str(home)}
    run = FabricatedRun(home, run_id, frozen=frozen | {"profile": profile.model_dump(mode="json")})
    run._journal.close()
    return run.folder


def test_gc_removes_what_nothing_needs_and_nothing_else(tmp_path: Path) -> None:
    home = tmp_path / "home"
    used = real_run(home, "used", 1)
    live = real_run(home, "live", 2)
    for folder in (used, live):
        fill(folder.checkpoints("sft") / "damaged-step_000005", model__safetensors=70)
        fill(folder.checkpoints("sft") / ".writing-step_000009", model__safetensors=7)
    keys = locations.keys(home, load("demo", ["data.seed=1"]))
    for stage in ("data", "traces"):
        fill(home / "cache" / stage / keys[stage], rows=10)
        fill(home / "cache" / stage / "unused", rows=100)
    fill(home / "cache" / "data" / f"building.tmp-{os.getpid()}", rows=1)
    fill(home / "cache" / "data" / "left.tmp-999999999", rows=1)
    fill(home / "cache" / "data" / f"damaged-{keys['data']}-1", rows=9)
    fill(home / "cache" / "answers" / "unused", answers__jsonl=1000)  # they were paid for
    fill(
        home,
        **{
            "store__duckdb__damaged-20260101-000000-1": 40,
            "store__duckdb__wal__damaged-20260101-000000-1": 4,
        },
    )
    fill(home / "trash-gone" / "run", file=5)
    fill(home / "mathrl-copy-left", store__duckdb=6)
    os.utime(home / "mathrl-copy-left", (0, 0))
    lock = FabricatedRun.__new__(FabricatedRun)
    lock.folder = live
    lock.lock()

    before = everything(home)
    listed = json.loads(mathrl(home, "gc", "--dry-run", "--json").stdout)
    assert everything(home) == before and listed["notes"] == []
    names = {str(Path(item["path"]).relative_to(home)): item["bytes"] for item in listed["items"]}
    assert names == {
        "store.duckdb.damaged-20260101-000000-1": 40,
        "store.duckdb.wal.damaged-20260101-000000-1": 4,
        "trash-gone": 5,
        "mathrl-copy-left": 6,
        "runs/used/checkpoints/sft/damaged-step_000005": 70,
        "runs/used/checkpoints/sft/.writing-step_000009": 7,
        "cache/data/unused": 100,
        "cache/traces/unused": 100,
        "cache/data/left.tmp-999999999": 1,
        f"cache/data/damaged-{keys['data']}-1": 9,
    }
    done = mathrl(home, "gc", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    gone = [str(home / name) for name in names]
    assert everything(home) == {p: s for p, s in before.items() if not p.startswith(tuple(gone))} | {
        str(used.path / "run.lock"): 0  # it was held meanwhile
    }
    assert mathrl(home, "gc").stdout == f"nothing to remove in {home}\n"


def test_gc_keeps_the_cache_if_it_cannot_tell_what_a_run_uses(home: Path) -> None:
    fill(home / "cache" / "data" / "unused", rows=100)
    listed = json.loads(mathrl(home, "gc", "--dry-run", "--json").stdout)
    assert {item["kind"] for item in listed["items"]} == {"damaged checkpoint, set aside"}
    assert listed["notes"][0].startswith(f"{home / 'cache'} is kept: what run {A} uses")


def test_gc_removes_what_is_neither_a_file_nor_a_folder(home: Path) -> None:
    pipe = home / "store.duckdb.damaged-20260101-000000-7"
    os.mkfifo(pipe)
    mathrl(home, "gc", "--yes")
    assert not os.path.lexists(pipe)


def test_gc_completes_a_removal_that_was_killed(home: Path) -> None:
    store = Store(home)
    store.catch_up()
    (home / f"removing-{A}").mkdir()
    (RunFolder(home, A).path).rename(home / f"removing-{A}" / "run")
    assert ids(home) == [B]
    assert mathrl(home, "gc", "--yes").returncode == 0
    assert [path for path in home.rglob("*") if A in path.name] == [home / REMOVED / A]
    assert store.sql(f"SELECT count(*) FROM scalar WHERE run_id = '{A}'")[1] == [(0,)]


def test_a_run_that_comes_alive_between_list_and_removal_keeps_its_files(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "ENDING_SECONDS", 0.0)
    items, _ = garbage.garbage(home)
    run = FabricatedRun.__new__(FabricatedRun)
    run.folder = RunFolder(home, A)
    run.lock()
    stayed = garbage.remove(home, items)
    run.unlock()
    assert len(stayed) == 1 and "its supervisor has not exited" in stayed[0]
    damaged = [
        folder.checkpoints("sft") / "damaged-step_000005" for folder in map(RunFolder, (home,) * 2, (A, B))
    ]
    assert [path.exists() for path in damaged] == [True, False]


def test_the_sum_is_in_doctor(home: Path) -> None:
    fill(home, **{"store__duckdb__damaged-20260101-000000-1": 5_000_000})
    total = sum(path.stat().st_size for path in home.rglob("*") if path.is_file() and not path.is_symlink())
    assert measure(home).total == total
    report = mathrl(home, "doctor").stdout
    assert f"space: {home} takes 5 MB (set aside 5 MB, " in report
    assert (
        "space: 5 MB are damaged files that were set aside, or remains of removed runs\n      → mathrl-tui gc"
        in report
    )


def test_ctrl_c_at_the_question_removes_nothing(home: Path) -> None:
    terminal = Terminal(home, "gc")
    terminal.read_until("[y/N]")
    terminal.press("\x03")
    assert terminal.wait() == 130
    assert (RunFolder(home, A).checkpoints("sft") / "damaged-step_000005").is_dir()


def test_gc_names_the_free_space_in_the_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JournalWriter(RunFolder(home, A).journal) as journal:
        for metric in "abcdefgh":
            journal.append([Scalar(f"sft/{metric}", step, step**0.5, 1.0) for step in range(20_000)])
    Store(home).catch_up()
    remove_runs(home, [A], "all")
    size = (home / "store.duckdb").stat().st_size
    line = garbage.free_blocks(home)
    assert line.startswith(f"{home / 'store.duckdb'} has {readable(size)}, of which ")
    assert "free inside: removed rows do not shrink the file" in line
    monkeypatch.setattr(garbage, "NOTABLE_BYTES", size)
    assert garbage.free_blocks(home) == ""
