"""`rm`: sizes first, then the question; live runs and what something needs stay."""

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

from engine.artifacts import digests
from engine.artifacts.arms import checkpoints, untrainable
from engine.cleanup import removal
from engine.cleanup.removal import RemovalRefused, remove_runs
from engine.cleanup.run_users import has_ended
from engine.context import StageFailed
from engine.data.recorded import missing_rollouts
from engine.ipc import pidfile
from engine.plan import Step
from engine.startup import launch
from engine.startup.launch import LaunchError
from profiles.load import load
from profiles.training import Grpo
from store.errors import StoreError
from store.home import RunFolder, removing, trash
from store.query import Store
from tests.support.command_line import Terminal, mathrl
from tests.support.fabricated import FabricatedRun
from tests.support.removable_home import A, B, everything, ids, make_run
from tests.support.stages_alone import HandWorker, prepared, train


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two finished runs."""
    for run_id in (A, B):
        make_run(tmp_path / "home", run_id)
    return tmp_path / "home"


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
