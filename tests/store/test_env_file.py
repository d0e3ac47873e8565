"""One rule for `.env`: the home and API keys, from the working directory, and the environment wins."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.server_client.key import KEY_VARIABLE, server_key
from engine.teacher.key import KeyMissing, find_key
from profiles.load import load
from store.env_file import MOST_BYTES, EnvFileFault, setting
from store.home import default_home
from tests.support.command_line import ROOT, environment


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
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mathrl_tui", "runs"],
        cwd=here,
        env=plain(here),
        capture_output=True,
        text=True,
    )
    assert f"no runs in {here / 'there'} yet" in done.stdout, done.stderr


def plain(here: Path) -> dict[str, str]:
    return {
        name: value for name, value in environment(here).items() if name not in ("MATHRL_HOME", KEY_VARIABLE)
    }


def unreadable_forms(file: Path) -> Iterator[str]:
    """Make `file` one thing after the other that is no readable text; yield what a message says of each."""
    file.mkdir()
    yield "it is not a regular file"
    file.rmdir()
    os.mkfifo(file)
    yield "it is not a regular file"
    file.unlink()
    file.symlink_to("nowhere")
    yield "it is a link to nowhere, which does not exist"
    file.unlink()
    file.symlink_to("/dev/zero")
    yield "it is not a regular file"
    file.unlink()
    file.write_bytes(b"A=1\nMATHRL_HOME=\xff\n")
    yield "line 2 is not UTF-8"
    file.write_text("MATHRL_HOME=there\n", encoding="utf-16")
    yield "line 1 contains a NUL"
    file.write_bytes(b"A=1\nB=\0\n")
    yield "line 2 contains a NUL"
    file.write_bytes(b"#" * (MOST_BYTES + 1))
    yield "it is longer than 1 MiB"


def test_a_file_that_cannot_be_read_is_an_error_where_a_setting_is_looked_up_in_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in unreadable_forms(here / ".env"):
        for lookup in (default_home, server_key):
            with pytest.raises(EnvFileFault, match=words) as caught:
                lookup()
            assert f"{here / '.env'}: cannot be read: " in str(caught.value)
        with pytest.raises(KeyMissing, match=words):
            find_key(load("demo").traces)
        # The environment wins, so that the file is not needed.
        with monkeypatch.context() as patch:
            patch.setenv("MATHRL_HOME", "/elsewhere")
            assert default_home() == Path("/elsewhere")


def test_the_command_that_needs_such_a_file_is_refused_in_one_line_and_another_runs(here: Path) -> None:
    (here / ".env").mkdir()
    command = [sys.executable, "-P", "-m", "mathrl_tui", "runs"]
    done = subprocess.run(command, cwd=here, env=plain(here), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{here / '.env'}: cannot be read: it is not a regular file; correct or remove it" in done.stderr
    named = subprocess.run(
        [*command, "--home", "x"], cwd=here, env=plain(here), capture_output=True, text=True
    )
    assert (named.returncode, named.stderr) == (0, "")


def test_another_users_file_is_not_passed_over(here: Path) -> None:
    (here / ".env").write_text("MATHRL_HOME=there\n")
    (here / ".env").chmod(0)
    if os.access(here / ".env", os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(EnvFileFault, match="Permission denied"):
        default_home()


def test_what_is_no_file_of_settings_is_not_taken_for_one(here: Path) -> None:
    (here / ".env").symlink_to("/dev/null")
    assert default_home() == here / "artifacts"
    (here / ".env").unlink()
    # `python -m venv .env`
    (here / ".env").mkdir()
    (here / ".env" / "pyvenv.cfg").touch()
    assert default_home() == here / "artifacts"


def test_compose_mounts_the_same_home_and_the_container_uses_the_volume() -> None:
    yaml = pytest.importorskip("yaml")
    machine = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["machine"]
    assert machine["environment"]["MATHRL_HOME"] == "/srv/artifacts"
    assert "${MATHRL_HOME:-./artifacts}:/srv/artifacts" in machine["volumes"]
