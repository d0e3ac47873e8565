"""Starts a supervisor over the fake engine, as engine/startup/launch.py does, and waits for its end.

As a script, `python supervised.py RUN_PATH READY_DESCRIPTOR [GPU LOCKS]`, it is that supervisor.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from engine.ipc.pidfile import Process, holder, lock_path, pid_path
from engine.machine.gpus import LOCKS, Gpu
from engine.protocol.control import Reply
from engine.startup import launch
from engine.supervisor.engine_processes import EntryPoints
from engine.supervisor.supervisor import Supervisor
from profiles.load import load
from store.home import RunFolder, create_run
from store.journal import read
from store.records import Event, Example, Record, Scalar
from tests.support.fake_engine import METRIC, expected_values
from tests.support.places import ROOT

PATIENCE = 30.0


def make_run(
    home: Path, *, worker: bool = True, steps: int = 60, settings: tuple[str, ...] = ()
) -> RunFolder:
    """A run of the demo profile with nothing but its config."""
    folder = create_run(home, "fake", 0)
    profile = load("demo", settings)
    plan = [{"stage": "grpo" if worker else "data", "arm": "grpo" if worker else ""}]
    config = {
        "run": folder.run_id,
        "name": "fake",
        "profile": profile.model_dump(mode="json"),
        "seed": 0,
        "stages": ["grpo"],
        "plan": plan,
        "created": time.time(),
    }
    folder.config.write_text(json.dumps(config))
    (folder.path / "steps").write_text(str(steps))
    return folder


def supervise(folder: RunFolder, *more: str) -> subprocess.Popen[bytes]:
    """A supervisor that holds the run, and has journaled so."""
    reader, writer = os.pipe()
    with (folder.logs / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, str(folder.path), str(writer), *more],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writer,),
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
    os.close(writer)
    try:
        select.select([reader], [], [], PATIENCE)
        assert os.read(reader, 16) == b"ready", (folder.logs / "supervisor.log").read_text()
    finally:
        os.close(reader)
    return process


def records(folder: RunFolder) -> list[Record]:
    """What the run has journaled."""
    return read(folder.journal)[0]


def states(folder: RunFolder) -> list[str]:
    """Its states in order."""
    return [r.payload["state"] for r in records(folder) if isinstance(r, Event) and r.kind == "state"]


def last_reason(folder: RunFolder) -> str:
    """Why it is in the state that it is in."""
    return [r.message for r in records(folder) if isinstance(r, Event) and r.kind == "state"][-1]


def until(true: Callable[[], object], what: str) -> None:
    """Waits until `true()`; fails after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s in vain until {what}"
        select.select([], [], [], 0.01)


def assert_whole(folder: RunFolder, steps: int) -> None:
    """Every step's scalar and example is there once, with the values of an undisturbed run."""
    rows = records(folder)
    scalars = [(r.step, int(r.value)) for r in rows if isinstance(r, Scalar) and r.metric == METRIC]
    assert scalars == list(enumerate(expected_values(steps)))
    assert [r.step for r in rows if isinstance(r, Example)] == list(range(steps))


def assert_nothing_left(folder: RunFolder, processes: list[Process]) -> None:
    """No process, lock, socket or shared memory of the run."""
    assert not any(process.is_alive for process in processes)
    assert not launch.is_alive(folder.home, folder.run_id)
    assert not folder.socket.exists()
    assert not list(Path("/dev/shm").glob(f"mathrl-{folder.run_id}*"))


def process_of(folder: RunFolder, role: str) -> Process:
    """The living process of `role`, once there is one."""
    path = lock_path(folder) if role == "supervisor" else pid_path(folder, role)
    until(lambda: holder(path), f"the {role} lives")
    process = holder(path)
    assert process is not None
    return process


def steps_done(folder: RunFolder) -> int:
    return sum(isinstance(r, Scalar) for r in records(folder))


def events(folder: RunFolder, kind: str) -> list[Event]:
    return [r for r in records(folder) if isinstance(r, Event) and r.kind == kind]


def started(folder: RunFolder) -> subprocess.Popen[bytes]:
    """A supervisor whose run has come to its first steps."""
    supervisor = supervise(folder)
    until(lambda: steps_done(folder) > 3, "the run has made some steps")
    return supervisor


def ask(folder: RunFolder, command: str) -> Reply:
    return launch.command(folder.home, folder.run_id, command, "test")


def main(arguments: list[str]) -> int:
    path = Path(arguments[0])
    gpus = [Gpu(0, arguments[2], "a GPU of the tests", 1.0)] if len(arguments) > 2 else []
    locks = Path(arguments[3]) if len(arguments) > 3 else LOCKS
    folder = RunFolder(path.parent.parent, path.name)
    entries = EntryPoints("tests.support.fake_engine:trainer", "tests.support.fake_engine:worker")
    supervisor = Supervisor(folder, gpus, entries, locks)
    os.write(int(arguments[1]), b"ready")
    os.close(int(arguments[1]))
    return 0 if supervisor.run() == "done" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
