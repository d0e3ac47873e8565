"""The Multi-Process Service's daemon lives exactly as long as the worker, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engine.generators import mps

# A stand-in for the driver's daemon: it notes where its pipe is, and runs until it gets a signal.
DAEMON = """#!/bin/sh
echo "$$ $1 $CUDA_MPS_PIPE_DIRECTORY ${CUDA_VISIBLE_DEVICES-every}" > "$NOTE.part" && mv "$NOTE.part" "$NOTE"
exec sleep 600
"""
WORKER = """
import pathlib, sys
from engine.generators.mps import start_mps
reach = start_mps("1", pathlib.Path(sys.argv[1]), lambda environment: "CUDA_MPS_PIPE_DIRECTORY" in environment)
print(reach, flush=True)
sys.stdin.read()
"""


def test_a_killed_worker_takes_its_daemon_along(tmp_path: Path) -> None:
    daemon = tmp_path / mps.DAEMON
    daemon.write_text(DAEMON)
    daemon.chmod(0o755)
    note = tmp_path / "note"
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "NOTE": str(note),
        "CUDA_VISIBLE_DEVICES": "1",
    }
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    reach = worker.stdout.readline()
    folder = tmp_path / f"mathrl-mps-{worker.pid}"
    assert str(folder) in reach
    started = psutil.Process(worker.pid).children()
    assert len(started) == 1
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive
    if note.exists():  # the daemon may have been ended before it wrote
        pid, foreground, pipe, devices = note.read_text().split()
        assert (int(pid), foreground, pipe, devices) == (started[0].pid, "-f", str(folder), "every")

    # The next worker removes what the killed one left, and nothing of a worker that lives.
    living = tmp_path / f"mathrl-mps-{os.getpid()}"
    living.mkdir()
    mps.remove_stale(tmp_path)
    assert not folder.exists() and living.exists()


def test_an_ending_worker_removes_its_directory(tmp_path: Path) -> None:
    daemon = tmp_path / mps.DAEMON
    daemon.write_text(DAEMON)
    daemon.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NOTE": str(tmp_path / "note")}
    worker = [sys.executable, "-c", WORKER, str(tmp_path)]
    done = subprocess.run(worker, env=environment, input="", capture_output=True, text=True, check=True)
    assert "mathrl-mps-" in done.stdout
    assert list(tmp_path.glob("mathrl-mps-*")) == []


def test_without_the_drivers_tools_there_is_no_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert mps.start_mps("0", tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_daemon_that_does_not_serve_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = tmp_path / mps.DAEMON
    daemon.write_text(DAEMON)
    daemon.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("NOTE", str(tmp_path / "note"))
    before = psutil.Process().children()
    assert mps.start_mps("0", tmp_path, lambda environment: False) == {}
    _, alive = psutil.wait_procs(
        [each for each in psutil.Process().children() if each not in before], timeout=30
    )
    assert not alive
