"""One rule for `.env`: the home and API keys, from the working directory, and the environment wins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT, environment

from engine.server_client.client import KEY_VARIABLE, server_key
from store.env_file import setting
from store.home import default_home


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("MATHRL_HOME", KEY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_home_is_that_of_the_file_unless_the_environment_has_one(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_home() == here / "artifacts"
    (here / ".env").write_text("# a comment\nexport MATHRL_HOME='runs of mine' # ours\n")
    assert default_home() == here / "runs of mine"
    monkeypatch.setenv("MATHRL_HOME", "/elsewhere")
    assert default_home() == Path("/elsewhere")
    monkeypatch.delenv("MATHRL_HOME")
    (here / ".env").write_text("MATHRL_HOME=~/runs\n")
    assert default_home() == Path.home() / "runs"


def test_a_servers_key_is_found_there_and_stays_out_of_the_environment(here: Path) -> None:
    (here / ".env").write_text(f"{KEY_VARIABLE}=secret-of-the-tests\nLD_PRELOAD=/tmp/x.so\n")
    assert server_key() == setting(KEY_VARIABLE) == "secret-of-the-tests"
    assert KEY_VARIABLE not in os.environ and "LD_PRELOAD" not in os.environ


def test_a_command_uses_the_files_home(here: Path) -> None:
    (here / ".env").write_text("MATHRL_HOME=there\n")
    plain = {name: value for name, value in environment(here).items() if name != "MATHRL_HOME"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mathrl_tui", "runs"],
        cwd=here,
        env=plain,
        capture_output=True,
        text=True,
    )
    assert f"no runs in {here / 'there'} yet" in done.stdout, done.stderr


def test_compose_mounts_the_same_home_and_the_container_uses_the_volume() -> None:
    yaml = pytest.importorskip("yaml")
    machine = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["machine"]
    assert machine["environment"]["MATHRL_HOME"] == "/srv/artifacts"
    assert "${MATHRL_HOME:-./artifacts}:/srv/artifacts" in machine["volumes"]
