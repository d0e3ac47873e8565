"""Whatever the umask, what the product makes in a home is its owner's alone; what a person exports is not."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.data.cache import building
from engine.startup.doctor import checks
from engine.training.checkpoint import begin, finish
from engine.training.direct_io import write_durably
from store.locks import locked
from store.private import make_folder, too_wide
from store.query import Store
from tests.support.command_line import mathrl
from tests.support.fabricated import finished_run
from tests.support.fake_engine import METRIC
from tests.support.supervised import PATIENCE, make_run, supervise

RUN = "demo-s0-finished"
WRITTEN_BY_TESTS = {"run.json", "steps", "state.json", "supervisor.log"}  # fake_engine.py and supervised.py


def open_to_others(home: Path) -> list[str]:
    """What in `home`, itself included, gives rights to group or others."""
    paths = [home, *home.rglob("*")]
    return [str(p) for p in paths if not p.is_symlink() and stat.S_IMODE(p.stat().st_mode) & 0o077]


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_supervised_run_is_its_owners_alone(umask: int, tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    folder = make_run(home, steps=3)
    assert supervise(folder).wait(PATIENCE) == 0
    assert (METRIC,) in Store(home).sql("SELECT DISTINCT metric FROM scalar")[1]
    made = {path.name for path in home.rglob("*")}
    assert {
        "store.duckdb",
        "store.lock",
        "store.gate",
        "run.lock",
        "trainer.pid",
        "trainer.log",
        "1.j",
    } <= made
    assert {Path(path).name for path in open_to_others(home)} <= WRITTEN_BY_TESTS
    assert umask == os.umask(umask)


def test_what_libraries_write_into_a_checkpoint_or_the_cache_is_its_owners_alone(
    umask: int, tmp_path: Path
) -> None:
    draft, final = tmp_path / "home" / "arm" / ".writing-step_1", tmp_path / "home" / "arm" / "step_1"
    begin(draft)
    (draft / "config.json").write_text("{}")
    (draft / "deep").mkdir()
    (draft / "deep" / "tokenizer.json").write_text("{}")
    digest = write_durably(draft / "weights", [])
    finish(draft, final, {"weights": digest})
    with building(tmp_path / "home" / "cache" / "data" / "key") as folder:
        (folder / "rows.jsonl").write_text("")
    with locked(tmp_path / "home" / "store.gate", patience=1.0):
        pass
    assert open_to_others(tmp_path / "home") == []


def test_exported_files_follow_the_persons_umask_and_those_in_the_home_do_not(
    umask: int, tmp_path: Path
) -> None:
    from mathrl_tui.core.home_data import HomeData

    home, out = tmp_path / "home", tmp_path / "out"
    finished_run(home)
    assert mathrl(home, "export", RUN, "--out", out, "--format", "csv").returncode == 0
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o666 & ~umask}
    assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~umask
    HomeData(home).export(RUN)
    assert open_to_others(home / "export") == []
    assert stat.S_IMODE((home / "store.duckdb").stat().st_mode) == 0o600


def test_a_home_that_is_open_to_others_stays_so_and_is_named_by_run_and_doctor(tmp_path: Path) -> None:
    home = tmp_path / "my home"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    line = f"{home} has mode 0755: other users of this machine can reach runs and locks in it"
    remedy = f"chmod -R go-rwx '{home}'"
    assert too_wide(home) == f"{line}; {remedy}"
    rows = ("--set", "data.train_rows=8", "--set", "data.test_rows=2", "--set", "data.validation_rows=2")
    begun = mathrl(home, "run", "data", "--profile", "demo", *rows)
    assert (begun.returncode, begun.stderr) == (0, f"warning: {line}; {remedy}\n")
    refused = mathrl(home, "run", "sft", "--profile", "demo", "--detach")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    found = [check for check in checks(home) if check.detail == line]
    assert [(check.status, check.remedy) for check in found] == [("warn", remedy)]
    assert "0755" not in mathrl(home, "runs").stderr
    assert stat.S_IMODE(home.stat().st_mode) == 0o755


def test_a_private_home_is_not_warned_of(tmp_path: Path) -> None:
    make_folder(tmp_path / "home")
    assert too_wide(tmp_path / "home") == ""
    assert too_wide(tmp_path / "missing") == ""
