"""Commands about a live run, through the real entry point: following it, on pipes and on a terminal, and ending it."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.startup import launch
from mathrl_tui.commands.feed import Feed
from store.home import RunFolder
from store.records import Event
from tests.support.command_line import Terminal, environment, mathrl
from tests.support.fabricated import FabricatedRun
from tests.support.supervised import make_run, states, supervise, until


@pytest.fixture
def held(tmp_path: Path) -> Iterator[RunFolder]:
    """A live run whose trainer waits, and goes on when its `hold-trainer` is taken away."""
    folder = make_run(tmp_path / "artifacts", worker=False, steps=30)
    hold(folder).touch()
    process = supervise(folder)
    until(lambda: "running" in states(folder), "the run is running")
    yield folder
    hold(folder).unlink(missing_ok=True)
    process.kill()
    process.wait()


def hold(folder: RunFolder) -> Path:
    return folder.path / "hold-trainer"


def test_status_of_a_live_run(held: RunFolder) -> None:
    (run,) = json.loads(mathrl(held.home, "runs", "--json").stdout)["runs"]
    assert (run["run"], run["state"], run["ended"]) == (held.run_id, "running", None)
    status = json.loads(mathrl(held.home, "status", held.run_id, "--json").stdout)
    assert [process["alive"] for process in status["processes"] if process["role"] == "trainer"] == [True]


def test_status_says_what_should_not_be_overlooked(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path / "artifacts", "demo-s0", time.time())
    run.write(run.event("state", state="running", reason=""), run.scalar("sft/train/loss", 1, math.nan))
    run.write(run.event("log", message="half the budget", arm="sft", level="warning"))
    run.lock()
    assert json.loads(mathrl(run.folder.home, "status", "--json").stdout)["runs"][0]["alarms"] == [
        "sft diverges: train/loss is nan",
        "sft: half the budget",
    ]
    assert (
        "! sft diverges: train/loss is nan\n! sft: half the budget\n"
        in mathrl(run.folder.home, "status").stdout
    )
    run.unlock()
    run.write(run.event("state", state="done", reason=""))
    assert json.loads(mathrl(run.folder.home, "status", "demo-s0", "--json").stdout)["alarms"] == []


def test_a_run_that_is_done_with_failures_is_seen_everywhere_and_exits_1(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path / "artifacts", "demo-s0", time.time())
    run.write(
        run.event("state", state="running", reason=""), run.event("stage", "", "eval", status="started")
    )
    fault = "1 of 2 suite tasks failed: mmlu: OSError: no rows (base)"
    run.write(run.event("log", "suite task failed: mmlu: OSError: no rows", "eval", "base", level="error"))
    run.write(run.event("stage", fault, "eval", status="incomplete"))
    run.write(run.event("state", state="done_with_failures", reason=f"eval: {fault}"))
    home = run.folder.home
    (listed,) = json.loads(mathrl(home, "runs", "--json").stdout)["runs"]
    assert (listed["state"], listed["reason"]) == ("done_with_failures", f"eval: {fault}")
    assert {"stage": "eval", "arm": "", "status": "incomplete"} in listed["stages"]
    assert "done_with_failures" in mathrl(home, "runs").stdout
    assert f"demo-s0: done_with_failures (eval: {fault})" in mathrl(home, "status").stdout
    attached = mathrl(home, "attach", "demo-s0")
    assert attached.returncode == 1
    assert "suite task failed: mmlu: OSError: no rows" in attached.stdout
    assert f"run demo-s0: eval: {fault}; `mathrl-tui run --resume demo-s0` repeats only" in attached.stderr


def test_pause_resume_checkpoint_and_stop(held: RunFolder) -> None:
    assert mathrl(held.home, "pause", held.run_id).returncode == 0
    hold(held).unlink()
    until(lambda: states(held)[-1] == "paused", "it is paused")
    assert mathrl(held.home, "checkpoint", held.run_id).returncode == 0
    assert mathrl(held.home, "resume", "fake").returncode == 0
    until(lambda: not launch.is_alive(held.home, held.run_id), "it has ended")
    done = mathrl(held.home, "stop", held.run_id)
    assert done.returncode == 2
    assert "no supervisor is running" in done.stderr


def test_kill_leaves_nothing_alive(held: RunFolder) -> None:
    done = mathrl(held.home, "kill", held.run_id)
    assert done.returncode == 0, done.stderr
    assert not launch.is_alive(held.home, held.run_id)


def test_attach_on_a_pipe_prints_plain_lines_to_the_end(held: RunFolder) -> None:
    attached = subprocess.Popen(
        [sys.executable, "-u", "-m", "mathrl_tui", "attach", held.run_id],
        env=environment(held.home),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert attached.stdout is not None
    first = attached.stdout.readline()
    hold(held).unlink()
    text = first + attached.stdout.read()
    assert attached.wait() == 0
    assert "sft: started" in text
    assert f"{held.run_id}: done" in text
    assert "\x1b" not in text
    assert "\r" not in text


def test_ctrl_c_on_a_pipe_leaves_the_run_and_says_how_to_come_back(held: RunFolder) -> None:
    attached = subprocess.Popen(
        [sys.executable, "-u", "-m", "mathrl_tui", "attach", held.run_id],
        env=environment(held.home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert attached.stdout is not None
    seen = attached.stdout.readline()  # it is following
    attached.send_signal(signal.SIGINT)
    rest, errors = attached.communicate()
    assert attached.returncode == 130
    assert f"mathrl-tui attach {held.run_id}" in seen + rest
    assert errors == ""
    assert launch.is_alive(held.home, held.run_id)


def test_ctrl_c_on_a_terminal_asks_and_stops(held: RunFolder) -> None:
    terminal = Terminal(held.home, "attach", held.run_id)
    terminal.read_until("running")
    terminal.press("\x03")
    terminal.read_until("[s]top")
    terminal.press("s\n")
    hold(held).unlink()
    assert terminal.wait() == 130
    assert not launch.is_alive(held.home, held.run_id)
    assert states(held)[-2:] == ["stopping", "interrupted"]


def test_ctrl_c_on_a_terminal_goes_on_watching_at_enter_and_leaves_at_the_second(held: RunFolder) -> None:
    terminal = Terminal(held.home, "attach", held.run_id)
    terminal.read_until("running")
    terminal.press("\x03")
    terminal.read_until("[s]top")
    terminal.press("\n")
    terminal.seen = ""
    terminal.read_until(held.run_id)  # the status line again
    terminal.press("\x03")
    terminal.read_until("[s]top")
    terminal.press("\x03")
    assert terminal.wait() == 130
    assert "left running" in terminal.seen
    assert launch.is_alive(held.home, held.run_id)


def test_a_terminal_that_is_closed_leaves_the_run_going(held: RunFolder) -> None:
    terminal = Terminal(held.home, "attach", held.run_id)
    terminal.read_until("running")
    terminal.close()
    hold(held).unlink()
    until(lambda: not launch.is_alive(held.home, held.run_id), "it has ended")
    assert states(held)[-1] == "done"


def test_a_run_that_fails_is_a_failed_command(held: RunFolder) -> None:
    (held.path / "fail").touch()
    hold(held).unlink()
    done = mathrl(held.home, "attach", held.run_id)
    assert done.returncode == 1
    assert done.stderr.startswith(f"run {held.run_id}: failed: ")
    assert f"run --resume {held.run_id}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_command_the_console_opens_and_closing_it_leaves_the_run(held: RunFolder) -> None:
    terminal = Terminal(held.home)
    terminal.read_until(held.run_id[:12])
    terminal.press("q")
    assert terminal.wait() == 0
    assert launch.is_alive(held.home, held.run_id)


def test_progress_lines_go_on_when_the_clock_is_set_back() -> None:
    feed = Feed("r", progress_lines=True)
    lines = [
        feed.take([Event("progress", stage="sft", payload={"done": done, "total": 90}, ts=ts)])
        for done, ts in ((1, 9000.0), (2, 9002.0), (3, 5400.0), (4, 5402.0), (5, 5406.0))
    ]
    assert [bool(line) for line in lines] == [True, False, True, False, True]
