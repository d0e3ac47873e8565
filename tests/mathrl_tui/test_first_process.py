"""As a container's first process: nothing that was started ends with the command, and SIGTERM reaches everything.

A PID namespace of its own makes a process the first one. Where the system allows none, these tests are skipped.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engine.supervisor.final_state import TERMINATED
from store.home import RunFolder, run_ids
from tests.support.command_line import PATIENCE, ROOT, Terminal, environment
from tests.support.supervised import events, last_reason, make_run, states, until

NAMESPACE = [
    "unshare",
    *([] if os.getuid() == 0 else ["-Ur"]),
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child",
]


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    try:
        works = subprocess.run([*NAMESPACE, "true"], capture_output=True, timeout=PATIENCE).returncode == 0
    except OSError:
        works = False
    if not works:
        pytest.skip("PID namespaces are not allowed here")


def first(home: Path, *words: str) -> subprocess.Popen[str]:
    """`python WORDS` as the first process of a namespace."""
    return subprocess.Popen(
        [*NAMESPACE, sys.executable, *words],
        cwd=home.parent,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def terminate(pid: int) -> None:
    """SIGTERM to the first process of the namespace that `pid` holds, as a container runtime sends it."""
    (inside,) = psutil.Process(pid).children()
    inside.send_signal(signal.SIGTERM)


def test_a_detached_run_is_done_before_its_container_ends(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = first(home, "-P", "-m", "mathrl_tui", "run", "data", "--profile", "demo", "--detach")
    said, told = process.communicate(timeout=PATIENCE)
    (run_id,) = run_ids(home)
    assert (process.returncode, said) == (0, f"{run_id}\n"), told
    assert (
        told
        == f"still running: {run_id}; this container stays until they end; SIGTERM (docker stop) ends all\n"
    )
    assert states(RunFolder(home, run_id))[-1] == "done"


SUPERVISOR = "import sys; from tests.support.supervised import main; sys.exit(main(sys.argv[2:]))"
LEAVE_BEHIND = f"""
import os, subprocess, sys
reader, writer = os.pipe()
words = [sys.executable, "-c", {SUPERVISOR!r}, "engine.supervisor", sys.argv[1], str(writer)]
with open(os.path.join(sys.argv[1], "logs", "supervisor.log"), "ab") as log:
    subprocess.Popen(words, stdout=log, stderr=log, pass_fds=(writer,), start_new_session=True)
os.close(writer)
sys.exit(os.read(reader, 16) != b"ready")
"""


def left_behind(folder: RunFolder) -> list[str]:
    """A command that leaves a supervised run behind and ends with status 0."""
    return ["env", f"PYTHONPATH={ROOT}", sys.executable, "-c", LEAVE_BEHIND, str(folder.path)]


def stay(*commands: list[str]) -> list[str]:
    """Words for `first`: the first process with these commands."""
    return [
        "-P",
        "-c",
        f"import sys; from mathrl_tui.first_process import stay; sys.exit(stay(*{commands!r}))",
    ]


def test_sigterm_reaches_what_the_command_left_behind(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "home", steps=100_000)
    process = first(folder.home, *stay(left_behind(folder)))
    until(lambda: len(events(folder, "process")) > 2, "the run is at work")
    terminate(process.pid)
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert (states(folder)[-1], last_reason(folder)) == ("interrupted", TERMINATED.format(signal="SIGTERM"))


def test_without_a_command_it_stays_until_it_is_stopped(tmp_path: Path) -> None:
    process = first(tmp_path / "home", "-P", "-m", "mathrl_tui.first_process")
    until(lambda: psutil.Process(process.pid).children(), "it has started")
    (inside,) = psutil.Process(process.pid).children()
    until(lambda: "first_process" in " ".join(inside.cmdline()) and _catches(inside.pid), "it is at work")
    terminate(process.pid)
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM


def _catches(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt:")).split()[1]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_zombies_are_reaped_while_the_command_runs(tmp_path: Path) -> None:
    """An orphan that ends before the command does is gone from /proc, and the command's own status stays."""
    script = (
        "import os, subprocess, sys\n"
        "orphan = int(subprocess.check_output(['sh', '-c', 'true >/dev/null & echo $!']))\n"
        "while os.path.exists(f'/proc/{orphan}'): pass\n"
        "sys.exit(7)"
    )
    process = first(tmp_path / "home", *stay([sys.executable, "-c", script]))
    assert process.wait(PATIENCE) == 7


def test_a_run_outlives_the_console_that_is_closed_and_enter_opens_it_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "home", steps=100_000)
    (folder.path / "hold-trainer").touch()
    words = stay(left_behind(folder), [sys.executable, "-c", "print('opened again')"])
    terminal = Terminal(folder.home, shell=f"exec {shlex.join([*NAMESPACE, sys.executable, *words])}")
    terminal.read_until(f"still running: {folder.run_id}")
    terminal.read_until("Enter opens the console")
    terminal.press("\n")
    terminal.read_until("opened again")
    until(lambda: states(folder)[-1] == "running", "the run goes on")
    terminate(terminal.pid)
    assert terminal.wait() == 128 + signal.SIGTERM
    assert (states(folder)[-1], last_reason(folder)) == ("interrupted", TERMINATED.format(signal="SIGTERM"))


def test_the_entry_point_is_the_first_process_only_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    from mathrl_tui import __main__ as entry

    assert not entry.is_first()
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert entry.is_first()
