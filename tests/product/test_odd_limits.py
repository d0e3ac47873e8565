"""Input beyond what any field means: one short line, no fault of the program, nothing started."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.startup import launch
from engine.startup.launch import LaunchError, resume_run, start_run
from engine.weight_sync import room
from profiles.errors import ProfileError
from profiles.load import load
from store.plain_json import parse_object
from store.runs import registered
from tests.support.command_line import environment, mathrl
from tests.support.fabricated import live_run
from tests.support.supervised import make_run

LONG, DEEP = "1" * 5000, "[" * 5000 + "]" * 5000
KEY = ".".join(["a"] * 5000)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"sft.steps={LONG}", "--set sft.steps: cannot be read: a whole number with thousands of digits"),
        (f"sft.steps=0x{'f' * 5000}", "--set sft.steps: a whole number of more than 64 bits"),
        (f"grpo.steps={2**63}", "--set grpo.steps: a whole number of more than 64 bits"),
        (f"eval.suite={DEEP}", "--set eval.suite: cannot be read"),
        (f"data.source={'{a=' * 5000}1{'}' * 5000}", "--set data.source: cannot be read"),
        (f"{KEY}=1", "a key of 5,000 parts"),
        (f"grpo.loss.{KEY}=1", "a key of 5,002 parts"),
        ("x" * 5000, "write KEY=VALUE"),
        ("x" * 5000 + "=1", "no such field"),
        (f"sft.steps={'x' * 5000}", "sft.steps: input should be a valid integer"),
    ],
)
def test_overrides(override: str, words: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load("demo", [override])
    assert words in str(caught.value)
    assert len(str(caught.value)) < 800
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"[sft]\nsteps = {LONG}",
        f"[sft]\nsteps = {2**64}",
        f"x = {DEEP}",
        f"{KEY} = 1",
        f"[{KEY}]",
        f"sft.{KEY} = 1",
        f"[[arms]]\nname = {2**64}",
    ],
)
def test_profile_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ProfileError) as caught:
        load(str(path))
    assert str(path) in str(caught.value) or "mine" in str(caught.value)
    assert len(str(caught.value)) < 800 + len(str(path))


@pytest.mark.parametrize("seed", [-1, 2**63, 10**400])
def test_a_seed_that_no_column_holds_starts_nothing(tmp_path: Path, seed: int) -> None:
    with pytest.raises(LaunchError, match=r"^seed .*: give a whole number from 0 to 9223372036854775807$"):
        start_run(tmp_path / "home", load("demo"), ("data",), seed)
    assert not (tmp_path / "home").exists()


def test_a_gold_answer_of_hundreds_of_digits_is_graded(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"completion": "#### ' + "9" * 400 + '", "answer": ' + "9" * 400 + "}\n")
    done = mathrl(tmp_path / "home", "grade", file)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        DEEP,
        f'{{"seed": {LONG}}}',
        "[]",
        "1",
        "\xff",
        '{"plan": [1]}',
        '{"plan": 3}',
        '{"created": "x"}',
        '{"name": {}}',
        '{"seed": []}',
    ],
)
def test_a_damaged_run_json(tmp_path: Path, text: str) -> None:
    folder = make_run(tmp_path)
    folder.config.write_text(text, encoding="latin-1")
    assert registered(folder) is None
    with pytest.raises(LaunchError) as caught:
        resume_run(tmp_path, folder.run_id)
    assert folder.run_id in str(caught.value)
    assert "start a new run" in str(caught.value)
    with pytest.raises(LaunchError, match="no supervisor is running"):
        launch.command(tmp_path, folder.run_id, "kill")


def test_a_run_whose_run_json_is_damaged_is_shown_from_its_journal(tmp_path: Path) -> None:
    run = live_run(tmp_path / "home")
    run.folder.config.write_text(DEEP)
    (status,) = json.loads(mathrl(tmp_path / "home", "status", "--json").stdout)["runs"]
    assert (status["run"], status["state"], status["arm"]) == ("demo-s1-live", "running", "sft")
    assert "demo-s1-live" in mathrl(tmp_path / "home", "runs").stdout
    run.unlock()


def test_an_object_is_asked_for() -> None:
    assert parse_object(b'{"a": 1}') == {"a": 1}
    for text in (DEEP, LONG, "[]", b"\xff"):
        with pytest.raises(ValueError):
            parse_object(text)


@pytest.mark.parametrize(
    ("files_left", "words"),
    [
        (
            0,
            "no room for 8 bytes of weights: all its 16 inodes (files) are in use; mount -o remount,nr_inodes=",
        ),
        (
            9,
            "no room for 8 bytes of weights: 4.0 KiB of 64.0 KiB are free; enlarge it (docker run --shm-size",
        ),
    ],
)
def test_the_limit_of_shared_memory_is_named(
    monkeypatch: pytest.MonkeyPatch, files_left: int, words: str
) -> None:
    found = SimpleNamespace(f_files=16, f_favail=files_left, f_bavail=1, f_blocks=16, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    error = room.no_room(Path("/dev/shm"), 8, OSError(errno.ENOSPC, "No space left on device"))
    assert str(error).startswith(f"[Errno {errno.ENOSPC}] /dev/shm: {words}")
    other = OSError(errno.EACCES, "Permission denied")
    assert room.no_room(Path("/dev/shm"), 8, other) is other


def test_the_limit_on_file_size_is_named(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; from pathlib import Path; from engine.weight_sync.slots import Slot\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: Slot(Path(sys.argv[1]) / 'slot', 1 << 20)\n"
        "except OSError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert f"{tmp_path}: no room for 1.0 MiB of weights: a file may have 4.0 KiB (ulimit -f)" in done.stdout
    assert not (tmp_path / "slot").exists()
