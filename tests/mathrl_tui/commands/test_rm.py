"""`rm` and `gc`: sizes first, then the question; live runs and what something needs stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import digests
from engine.arms import checkpoints, untrainable
from engine.cleanup import garbage, removal
from engine.cleanup.disk_usage import measure, readable
from engine.cleanup.removal import RemovalRefused, remove_runs
from engine.cleanup.run_users import has_ended
from engine.context import StageFailed
from engine.data import locations
from engine.data.recorded import missing_rollouts
from engine.ipc import pidfile
from engine.plan import Step
from engine.startup import launch
from engine.startup.launch import LaunchError
from profiles.load import load
from profiles.training import Grpo
from store.errors import StoreError
from store.home import REMOVED, RunFolder, removing, trash
from store.journal import JournalWriter
from store.query import Store
from store.records import Scalar
from tests.support.command_line import Terminal, mathrl
from tests.support.fabricated import FabricatedRun, finished_run
from tests.support.stages_alone import HandWorker, prepared, train

A, B = "demo-s0-first", "demo-s1-second"


def fill(folder: Path, **files: int) -> None:
    """Files of zeros of these sizes; `__` in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in files.items():
        (folder / name.replace("__", ".")).write_bytes(bytes(size))


def make_run(home: Path, run_id: str) -> FabricatedRun:
    run = finished_run(home, run_id)
    run._journal.close()
    fill(run.folder.rollouts / "grpo", update_000001__npz=1000, update_000002__npz=2000)
    arm = run.folder.checkpoints("sft")
    fill(arm / "step_000010", model__safetensors=500, config__json=2)
    fill(arm / "step_000010", trainer_0__json=3, trainer_0_000__safetensors=900)
    digests.write_list(arm / "step_000010", {})
    (arm / "best").symlink_to("step_000010")
    fill(arm / "damaged-step_000005", model__safetensors=70)
    return run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two finished runs."""
    for run_id in (A, B):
        make_run(tmp_path / "home", run_id)
    return tmp_path / "home"


def everything(home: Path) -> dict[str, int]:
    """Every file but the database's own and the records of removals, with its size."""
    return {
        str(p): p.stat().st_size
        for p in home.rglob("*")
        if p.is_file() and not p.name.startswith("store.") and p.parent != home / REMOVED
    }


def ids(home: Path) -> list[str]:
    return [run.run for run in Store(home).runs()]


def test_sizes_are_listed_first_and_without_a_terminal_nothing_goes(home: Path) -> None:
    before = everything(home)
    listed = json.loads(mathrl(home, "rm", A, "--dry-run", "--json").stdout)
    (run,) = listed["runs"]
    folder = RunFolder(home, A)
    journal = sum(path.stat().st_size for path in folder.journal.iterdir())
    checkpoint = (folder.checkpoints("sft") / "step_000010" / digests.LIST).stat().st_size + 502
    assert {
        kind: run["bytes"][kind] for kind in ("rollouts", "optimizer", "damaged", "journal", "checkpoints")
    } == {
        "rollouts": 3000,
        "optimizer": 903,
        "damaged": 70,
        "journal": journal,
        "checkpoints": checkpoint,
    }
    assert (run["run"], run["total"], listed["dry_run"]) == (A, listed["bytes"], True)
    assert run["total"] == sum(s for p, s in before.items() if f"/{A}/" in p)
    for command in (("rm", A), ("rm", A, "--rollouts"), ("gc",)):
        refused = mathrl(home, *command)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert (
            f"{command[0]}: standard input is not a terminal, so it cannot ask; add --yes" in refused.stderr
        )
    assert everything(home) == before


def test_on_a_terminal_it_asks(home: Path) -> None:
    terminal = Terminal(home, "rm", A)
    terminal.read_until("[y/N]")
    terminal.press("n\n")
    assert (terminal.wait(), ids(home)) == (130, [A, B])
    terminal = Terminal(home, "rm", A)
    terminal.read_until("[y/N]")
    assert f"Remove {A} with all rows and checkpoints" in terminal.seen
    terminal.press("y\n")
    assert (terminal.wait(), ids(home)) == (0, [B])


def test_a_run_is_named_as_elsewhere_and_goes_whole(home: Path) -> None:
    others = {path: size for path, size in everything(home).items() if A not in path}
    assert mathrl(home, "rm", "demo-", "--yes").returncode == 2  # two runs begin so
    assert mathrl(home, "rm", "demo-s7", "--yes").returncode == 2
    done = mathrl(home, "rm", A[:9], "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"removed {A} with all rows and checkpoints" in done.stdout
    assert ids(home) == [B] and removing(home) == trash(home) == []
    assert (
        {path: size for path, size in everything(home).items() if A not in path} == others == everything(home)
    )


def test_a_live_run_and_one_that_another_process_uses_are_refused(home: Path) -> None:
    run = FabricatedRun(home, "live")
    run.lock()
    refused = mathrl(home, "rm", A, "live", "--yes")
    assert (refused.returncode, refused.stdout.count("removed")) == (2, 0)
    assert "run live: it is live; stop it first: mathrl-tui stop live" in refused.stderr
    run.unlock()
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], cwd=RunFolder(home, B).logs, stdin=subprocess.PIPE
    ) as user:
        refused = mathrl(home, "rm", A, B, "--yes", "--rollouts")
        user.communicate(b"\n")
    assert refused.returncode == 2
    assert f"run {B}: process {user.pid} (python" in refused.stderr
    assert set(ids(home)) == {A, B, "live"} and RunFolder(home, A).rollouts.is_dir()


def test_what_was_made_from_a_run_is_named_and_a_live_one_holds_it(home: Path) -> None:
    """Fields that name the run's id or a path in it, whatever they are called."""
    model = {"source": f"{RunFolder(home, A).checkpoints('sft')}/step_000010"}
    child = FabricatedRun(home, "child", changed={"model": model}, frozen={"imported_from": A})
    child.lock()
    refused = mathrl(home, "rm", A, "--yes")
    assert f"run {A}: the live run child was made from it" in refused.stderr
    child.unlock()
    done = mathrl(home, "rm", A, "--yes")
    assert (done.returncode, done.stderr) == (
        0,
        f"note: run child was made from {A} (model.source, imported_from)\n",
    )
    assert set(ids(home)) == {B, "child"}


def test_rollouts_alone(home: Path) -> None:
    done = mathrl(home, "rm", A, "--rollouts", "--yes", "--json")
    assert json.loads(done.stdout)["bytes"] == 3000
    assert not RunFolder(home, A).rollouts.exists() and RunFolder(home, B).rollouts.is_dir()
    assert (ids(home), trash(home)) == ([A, B], [])
    line = missing_rollouts(home, Grpo(replay=A, steps=2), ["grpo"])
    assert "no recorded rollouts of arm grpo" in line


def test_without_optimizer_state_an_arm_is_usable_and_cannot_train_on(tmp_path: Path) -> None:
    settings = ("sft.steps=4", "sft.checkpoint_every=2", "sft.validate_every=0")
    context, _ = prepared(tmp_path, *settings)
    train(context, "sft", HandWorker())
    run = context.folder
    whole = {path.name for path in checkpoints(run, "sft")[-1].iterdir()}
    remove_runs(run.home, [run.run_id], "optimizer")
    for folder in checkpoints(run, "sft"):
        digests.check(folder)
        assert whole - {path.name for path in folder.iterdir()} == {
            n for n in whole if not digests.of_model(n)
        }
    more = replace(context, profile=load(str(tmp_path / "seconds.toml"), [*settings, "sft.steps=6"]))
    with pytest.raises(StageFailed, match=r"^arm sft: the optimizer state of step_000004 was removed"):
        train(more, "sft", HandWorker())
    with pytest.raises(
        LaunchError, match=f"run {run.run_id}: cannot be resumed: arm sft: the optimizer state"
    ):
        launch._check_optimizer(run, [Step("sft", "sft")])
    (run.path / "finished").mkdir()
    (run.path / "finished" / "sft").touch()
    launch._check_optimizer(run, [Step("sft", "sft"), Step("eval")])  # an evaluation needs weights only


class Killed(BaseException):
    """Stands for a kill: nothing after it is done."""


def test_a_stripped_checkpoint_is_usable_whenever_the_removal_is_killed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(home, A).checkpoints("sft") / "step_000010"
    for number in range(1, 20):
        calls = iter(range(1, 100))

        def counted(
            change: Callable[..., Any], calls: Any = calls, number: int = number
        ) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                if next(calls) == number:
                    raise Killed
                return change(*args, **kwargs)

            return call

        try:
            with monkeypatch.context() as patch:
                patch.setattr(removal, "write_text", counted(removal.write_text))
                for name in ("replace", "unlink"):
                    patch.setattr(Path, name, counted(getattr(Path, name)))
                remove_runs(home, [A], "optimizer")
            break
        except Killed:
            digests.check(folder, digests.of_model)
            stripped = not (folder / "trainer_0.json").exists()
            assert untrainable(folder) or not stripped
    assert untrainable(folder) and number > 3
    remove_runs(home, [A], "optimizer")  # there is nothing left to do
    assert untrainable(folder)
    digests.check(folder)


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


def test_a_run_that_has_just_ended_is_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FabricatedRun.__new__(FabricatedRun)
    run.folder = RunFolder(home, A)
    run.lock()
    monkeypatch.setattr(removal, "LOCK_PATIENCE", 0.0)
    looks: list[bool] = []

    def look(folder: RunFolder) -> bool:
        """The supervisor exits after the second look at its run."""
        if len(looks) == 1:
            run.unlock()
        looks.append(has_ended(folder))
        return looks[-1]

    monkeypatch.setattr(removal, "has_ended", look)
    remove_runs(home, [A], "all")
    assert looks == [True, True]
    assert ids(home) == [B]


def test_one_that_stays_is_named_after_a_bounded_wait(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "LOCK_PATIENCE", 0.0)
    monkeypatch.setattr(removal, "ENDING_SECONDS", 0.0)
    lock = pidfile.hold(pidfile.lock_path(RunFolder(home, A)))
    with pytest.raises(
        RemovalRefused, match=rf"its supervisor \(PID {os.getpid()}\) has not exited; try again"
    ):
        remove_runs(home, [A], "all")
    os.close(lock)
    assert ids(home) == [A, B]


@pytest.mark.parametrize("name", ["store.lock", "store.gate"])
def test_the_process_that_holds_the_store_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Store(home).catch_up()
    monkeypatch.setattr(removal, "PATIENCE", 1.1)
    with subprocess.Popen(
        ["flock", "-x", home / name, "sh", "-c", "echo; read end"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(
            (RemovalRefused, StoreError), match=rf"{name}: held by PID {holder.pid}, 'flock -x"
        ) as told:
            remove_runs(home, [A], "all")
        holder.communicate(b"end\n")
    assert f"`kill {holder.pid}` ends it" in str(told.value)
    assert ("next command removes the rest" if name == "store.gate" else "nothing was removed") in str(
        told.value
    )


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
    said = mathrl(home, "doctor").stdout
    assert f"space: {home} takes 5 MB (set aside 5 MB, " in said
    assert (
        "space: 5 MB are damaged files that were set aside, or remains of removed runs\n      → mathrl-tui gc"
        in said
    )


def test_a_removal_of_several_is_refused_as_a_whole(home: Path) -> None:
    run = FabricatedRun(home, "live")
    run.lock()
    before = everything(home)
    with pytest.raises(RemovalRefused):
        remove_runs(home, [A, B, "live"], "all")
    run.unlock()
    assert {p: s for p, s in everything(home).items() if not p.endswith("run.lock")} == {
        p: s for p, s in before.items() if not p.endswith("run.lock")
    }


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
