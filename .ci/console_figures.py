"""Measure the console on a real pseudo-terminal: latency, bytes and processor time.

    usage: console_figures.py HOME [--rows 1000000] [--seconds 20]

    fabricated history + a writer of 200 rows/s for each of two live runs ─▶ console on a pty ─▶ figures

HOME is made once and used again. The figures are printed one a line, as name and value.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

from store.query import Store
from store.records import Scalar
from tests.support.fabricated import FabricatedRun, finished_run

METRICS = tuple(
    f"grpo/{name}"
    for name in (
        *(f"train/{name}" for name in ("loss", "grad_norm", "entropy", "tokens", "learning_rate")),
        *(f"reward/{name}" for name in ("mean", "std", "correct", "frac_zero_std")),
        *(f"completions/{name}" for name in ("mean_length", "p95_length", "clipped_ratio")),
        *(f"worker/{name}" for name in ("idle_seconds", "tokens_per_second")),
        *(f"clip_ratio/{name}" for name in ("low_mean", "high_mean")),
        *(f"kl/{name}" for name in ("mean",)),
        *(f"sampling/{name}" for name in ("logprob_difference",)),
        *(f"policy/{name}" for name in ("logprob_change",)),
        *(f"val/{name}" for name in ("loss",)),
    )
)
LIVE = ("demo-s1-live", "demo-s2-live")
FINISHED = "demo-s0-finished"
STEPS_PER_SECOND = 10
CONSOLE = "import sys; from pathlib import Path; from mathrl_tui.app import run_console; run_console(Path(sys.argv[1]))"
# Seconds without output after which a frame is complete.
QUIET = 0.03


def height(metric: int, step: int) -> float:
    """Return a noisy, falling value; the noise follows from step and metric."""
    noise = ((step * 7919 + metric * 104729) % 1000) / 1000
    return 1.0 / (1 + step / 5000) + 0.1 * noise


def points(run: FabricatedRun, steps: Sequence[int]) -> list[Scalar]:
    """Return a point of each metric at each of `steps`."""
    return [
        run.scalar(metric, step, height(place, step))
        for step in steps
        for place, metric in enumerate(METRICS)
    ]


def make_home(home: Path, rows: int) -> None:
    """Write a finished run and two live ones with `rows` rows in total."""
    steps = rows // len(METRICS) // len(LIVE)
    finished_run(home, FINISHED)
    for seed, name in enumerate(LIVE, 1):
        run = FabricatedRun(home, name, time.time() - steps / STEPS_PER_SECOND, seed)
        run.write(run.event("state", state="running", reason=""))
        run.stage("data")
        run.write(run.event("stage", "", "grpo", "grpo", status="started"))
        for start in range(1, steps + 1, 500):
            part = range(start, min(start + 500, steps + 1))
            run.passes(len(part) / STEPS_PER_SECOND)
            run.write(*points(run, part))
        run.close()
    while Store(home).ingest():
        pass


def feed(home: Path) -> None:
    """Keep both runs alive and write STEPS_PER_SECOND steps a second, until the process is stopped."""
    runs = []
    for name in LIVE:
        run = FabricatedRun.reopened(home, name)
        run.lock()
        runs.append(run)
    print("ready", flush=True)
    last = int(Store(home).series(LIVE[0], METRICS[0], 10).step[-1])
    for step in itertools.count(last + 1):
        for run in runs:
            run.now = time.time()
            progress = run.event("progress", "", "grpo", "grpo", done=step, total=2 * last, unit="steps")
            run.write(*points(run, [step]), progress)
        time.sleep(1 / STEPS_PER_SECOND)


class Terminal:
    """The console on a pseudo-terminal that answers the query for synchronised output."""

    def __init__(self, home: Path, columns: int, rows: int) -> None:
        self.fd, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONSOLE, str(home)],
            env=os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
            stdin=there,
            stdout=there,
            stderr=there,
            start_new_session=True,
        )
        os.close(there)
        self.count = 0

    def read(self, patience: float) -> bytes:
        """Return the next output, or nothing after `patience` seconds."""
        ready, _, _ = select.select([self.fd], [], [], max(patience, 0))
        part = os.read(self.fd, 1 << 20) if ready else b""
        self.count += len(part)
        return part

    def drain(self, seconds: float) -> int:
        """Read for `seconds`; return the number of bytes."""
        before, end = self.count, time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.read(left)
        return self.count - before

    def until(self, words: str) -> float:
        """Read until `words`; return the seconds since the start."""
        seen, end = b"", time.monotonic() + 60
        while words.encode() not in seen:
            seen += self.read(end - time.monotonic())
            if time.monotonic() > end:
                raise SystemExit(f"never seen: {words}")
        return time.monotonic() - self.begun

    def press(self, key: bytes) -> tuple[float, int]:
        """Press a key; return milliseconds to the end of its frame, and the bytes of it."""
        while self.read(QUIET):
            pass
        begun, before = time.monotonic(), self.count
        os.write(self.fd, key)
        last = begun
        if self.read(2.0):
            last = time.monotonic()
            while self.read(QUIET):
                last = time.monotonic()
        return 1000 * (last - begun), self.count - before

    def cpu(self) -> float:
        """Return the processor seconds of the console so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> float:
        """Return the resident memory in MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024

    def close(self) -> None:
        """End the console."""
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


def say(name: str, value: str) -> None:
    """Print one figure."""
    print(f"{name:<52} {value}", flush=True)


def opened(home: Path, columns: int, rows: int, run: str) -> Terminal:
    """Return a console that shows `run`; the newest run is the first of the list."""
    terminal = Terminal(home, columns, rows)
    terminal.until(run)
    terminal.drain(1.0)
    for _ in range([*reversed(LIVE), FINISHED].index(run)):
        terminal.press(b"\x1b[B")
    terminal.press(b"2")
    terminal.drain(3.0)
    return terminal


def first_paint(home: Path) -> None:
    """Measure the first paint at two sizes."""
    for columns, rows in ((80, 24), (200, 50)):
        taken = []
        for _ in range(3):
            terminal = Terminal(home, columns, rows)
            taken.append(terminal.until("Runs"))
            terminal.close()
        say(f"first paint {columns}x{rows}, s", f"{statistics.median(taken):.2f}")


def live(home: Path, seconds: float) -> None:
    """Measure a live run at 200×50."""
    terminal = watched(home, LIVE[0], "live", seconds)
    say("resident, MiB", f"{terminal.resident():.0f}")
    terminal.close()


KEYS = {
    "smoother": b"]",
    "rougher": b"[",
    "x-axis": b"x",
    "x-axis 2": b"x",
    "x-axis 3": b"x",
    "zoom in": b"+",
    "pan": b"\x1b[D",
    "whole": b"0",
    "log": b"l",
    "linear": b"l",
    "next chart": b"\t",
    "page": b"\x1b[6~",
    "page back": b"\x1b[5~",
    "maximise": b"z",
    "all": b"z",
}
CHANGES = {
    "evaluation": b"3",
    "run": b"2",
    "config": b"8",
    "run again": b"2",
    "runs": b"1",
    "run once more": b"2",
}


def keys(terminal: Terminal, what: str) -> None:
    """Measure each key on Run, and changes of the screen."""
    taken: list[float] = []
    sizes: dict[str, list[int]] = {}
    times: dict[str, list[float]] = {}
    for _ in range(4):
        for name, key in KEYS.items():
            spent, size = terminal.press(key)
            taken.append(spent)
            sizes.setdefault(name, []).append(size)
            times.setdefault(name, []).append(spent)
    changed = []
    for _ in range(4):
        for name, key in CHANGES.items():
            spent, size = terminal.press(key)
            changed.append(spent)
            sizes.setdefault(name, []).append(size)
            times.setdefault(name, []).append(spent)
            terminal.drain(0.4)
    for name, found in sizes.items():
        say(
            f"{what}key {name}, KB; ms",
            f"{statistics.median(found) / 1e3:.1f}; {statistics.median(times[name]):.0f}",
        )
    on_run = [size for name in KEYS for size in sizes[name]]
    say(
        f"{what}key on Run, KB median; most",
        f"{statistics.median(on_run) / 1e3:.1f}; {max(on_run) / 1e3:.1f}",
    )
    every = sorted([*taken, *changed])
    say(
        f"{what}key to frame, ms median; p95",
        f"{statistics.median(taken):.0f}; {sorted(taken)[int(0.95 * len(taken))]:.0f}",
    )
    say(
        f"{what}screen change, ms median; p95",
        f"{statistics.median(changed):.0f}; {sorted(changed)[int(0.95 * len(changed))]:.0f}",
    )
    say(f"{what}all, ms p95", f"{every[int(0.95 * len(every))]:.0f}")


def finished(home: Path, seconds: float) -> None:
    """Measure a finished run at 200×50."""
    watched(home, FINISHED, "finished", seconds).close()


def watched(home: Path, run: str, what: str, seconds: float) -> Terminal:
    """Measure a run's screen alone for `seconds`, then its keys; return the terminal."""
    terminal = opened(home, 200, 50, run)
    worked, begun = terminal.cpu(), time.monotonic()
    count = terminal.drain(seconds)
    spent = time.monotonic() - begun
    say(f"{what} 200x50, KiB/s", f"{count / 1024 / spent:.2f}")
    say(f"{what} 200x50, % of a core", f"{100 * (terminal.cpu() - worked) / spent:.2f}")
    keys(terminal, f"{what} ")
    return terminal


def main() -> None:
    """Make the home, start the writer and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--feed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.feed:
        if not options.home.exists():
            make_home(options.home, options.rows)
        feed(options.home)
    own = [sys.executable, __file__, str(options.home), "--rows", str(options.rows), "--feed"]
    writer = subprocess.Popen(own, stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        first_paint(options.home)
        live(options.home, options.seconds)
        finished(options.home, options.seconds)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()


if __name__ == "__main__":
    main()
