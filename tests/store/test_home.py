"""A home that cannot be one is refused by every command in one line, before anything is written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mathrl_tui import cli
from store.home import HomeFault
from tests.support.command_line import environment, mathrl

# The form of MATHRL_HOME in the folder that `forms` makes, and what the refusal names.
FORMS = {
    "/dev/null": "/dev/null is not a folder",
    "/dev/full": "/dev/full is not a folder",
    "a-file": "a-file is not a folder",
    "a-file/below/it": "a-file is not a folder",
    "a-link": "a-link is a link to nowhere, which does not exist",
    "a-link/below/it": "a-link is a link to nowhere, which does not exist",
    "a-loop": "Too many levels of symbolic links",
    "": "MATHRL_HOME: is set, but empty",
    "~nobody-of-this-name/x": "no such user",
    "n" * 300: "File name too long",
}


@pytest.fixture
def forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a-file").touch()
    (tmp_path / "a-link").symlink_to("nowhere")
    (tmp_path / "a-loop").symlink_to("a-loop")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands_with_a_home() -> dict[str, list[str]]:
    """Every command that takes --home, with a word for each of its required arguments."""
    found = {}
    for name, command in typer.main.get_command(cli.app).commands.items():  # type: ignore[attr-defined]
        if any(parameter.name == "home" for parameter in command.params):
            required = [p for p in command.params if p.param_type_name == "argument" and p.required]
            found[name] = ["1"] * len(required)
    return found


@pytest.mark.parametrize("form", FORMS)
def test_it_is_one_line_that_names_the_place_and_the_remedy(forms: Path, form: str) -> None:
    before = sorted(forms.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "mathrl_tui", "runs"],
        cwd=forms,
        env=environment(forms) | {"MATHRL_HOME": form},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert FORMS[form] in done.stderr
    assert "choose another folder" in done.stderr or "unset it" in done.stderr
    assert sorted(forms.rglob("*")) == before


@pytest.mark.parametrize("form", FORMS)
def test_no_command_begins_with_it(forms: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = commands_with_a_home()
    assert {"run", "demo", "runs", "kill", "attach", "rm", "gc", "serve", "doctor", "sql"} <= set(commands)
    before = sorted(forms.rglob("*"))
    for name, arguments in commands.items():
        monkeypatch.setenv("MATHRL_HOME", form)
        with pytest.raises(HomeFault):
            cli.app([name, *arguments], standalone_mode=False)
        monkeypatch.delenv("MATHRL_HOME")
        with pytest.raises(HomeFault):
            cli.app([name, *arguments, "--home", form], standalone_mode=False)
    assert sorted(forms.rglob("*")) == before


def test_a_read_only_home_still_shows_its_runs_and_one_without_any_is_refused(tmp_path: Path) -> None:
    namespace = ["unshare", "-rm"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], check=False).returncode:
        pytest.skip("needs a user namespace to mount a file system read-only in")
    home = tmp_path / "home"
    home.mkdir()

    def runs(*words: str) -> subprocess.CompletedProcess[str]:
        mount = f'mount --bind {home} {home} && mount -o remount,bind,ro {home} && exec "$@"'
        return subprocess.run(
            [*namespace, "sh", "-c", mount, "sh", sys.executable, "-m", "mathrl_tui", *words],
            cwd=tmp_path,
            env=environment(home),
            capture_output=True,
            text=True,
        )

    refused = runs("runs")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert f"home {home}: is read-only" in refused.stderr
    below = runs("runs", "--home", str(home / "below"))
    assert below.returncode == 2
    assert f"cannot be created: {home} is read-only" in below.stderr
    (home / "runs").mkdir()
    assert runs("runs").returncode == 0


def test_a_home_that_is_missing_is_one_without_runs(tmp_path: Path) -> None:
    done = mathrl(tmp_path / "home", "runs", "--home", tmp_path / "not" / "yet")
    assert done.returncode == 0, done.stderr
