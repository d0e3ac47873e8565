"""One run under fault: its home folder, the commands that a user gives it, how far it is.

Nothing here waits without a bound. A wait ends when the run shows no sign of work for STILL_SECONDS, and that is a
finding (`Hang`), whatever the clock says about a busy machine.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import machine
from tests.faults.journal_view import JournalView
from tests.faults.machine import Proc
from tests.faults.not_possible import NotPossible

ROOT = Path(__file__).parents[2]
COMMAND_SECONDS = 150.0
STILL_SECONDS = 200.0  # more than the longest grace that the product gives a process, 120 s
SPIN_SECONDS = 600.0
POLL_SECONDS = 0.01


class Hang(Exception):
    """A command did not return, or the run lives and does nothing."""


@dataclass(frozen=True, slots=True)
class Said:
    """A command and what the user saw of it."""

    arguments: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""

    def __str__(self) -> str:
        return f"`{' '.join(self.arguments)}` exit {self.status}: {self.last_line}"


@dataclass
class Subject:
    """The run, its home and everything that was said about it."""

    folder: Path
    profile: Path
    settings: tuple[str, ...]
    token: str
    with_mounts: bool = False
    with_clock: bool = False
    run_id: str = ""
    said: list[Said] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # findings that do not end the run
    damaged: list[str] = field(default_factory=list)  # what was damaged, of which a loss may follow
    resumes: int = 0

    def __post_init__(self) -> None:
        self.disk = self.folder / "disk"
        self.disk.mkdir(parents=True)
        self.home = self.disk / "home"
        self.clock = self.folder / "clock"
        self.clock.write_bytes(bytes(8))
        self.journal = JournalView(self.home / "journal" / "none")
        self._commands = 0
        self._signature: tuple[int, ...] = ()
        self._work = (0.0, 0)
        self._looked = 0.0
        self.touch()

    # ------------------------------------------------------------------ paths

    @property
    def run_path(self) -> Path:
        return self.home / "runs" / self.run_id

    @property
    def journal_path(self) -> Path:
        return self.home / "journal" / self.run_id

    @property
    def store(self) -> Path:
        return self.home / "store.duckdb"

    def environment(self) -> dict[str, str]:
        """Return the environment of the user, whose home folder is this run's."""
        path = [str(ROOT / "tests" / "faults" / "hooks")] * self.with_clock + [str(ROOT)]
        own = {
            "PYTHONPATH": ":".join(path),
            "MATHRL_HOME": str(self.home),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "200",
            machine.MARK: self.token,
        }
        if self.with_clock:
            own["MATHRL_FAULTS_CLOCK"] = str(self.clock)
        return {**os.environ, **own}

    # --------------------------------------------------------------- commands

    def cli(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> Said:
        """Give a command and wait for its end. Raises Hang if it does not come."""
        process = self.popen(*arguments)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Hang(f"`{' '.join(arguments)}` did not return in {seconds:.0f} s") from None
        return self.heard(arguments, status, process)

    def popen(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command; its output goes to files."""
        self._commands += 1
        stem = self.folder / f"command-{self._commands:03}"
        with stem.with_suffix(".out").open("wb") as out, stem.with_suffix(".err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "mathrl_tui", *arguments],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=_without_core_dumps,
            )
        process.stem = stem  # type: ignore[attr-defined]
        return process

    def heard(self, arguments: tuple[str, ...], status: int, process: subprocess.Popen[bytes]) -> Said:
        """Keep what a command that has ended left on its streams."""
        stem: Path = process.stem  # type: ignore[attr-defined]
        out, err = (stem.with_suffix(end).read_text(errors="replace") for end in (".out", ".err"))
        said = Said(arguments, status, out, err)
        self.said.append(said)
        return said

    def start(self) -> None:
        """Start the experiment, detached."""
        overrides = [word for setting in self.settings for word in ("--set", setting)]
        said = self.cli("run", "all", "--profile", str(self.profile), "--detach", *overrides)
        if said.status:
            raise RuntimeError(f"the undisturbed start failed: {said.stderr}")
        self.run_id = said.stdout.strip().splitlines()[-1]
        self.journal = JournalView(self.journal_path)
        self.touch()

    def resume(self, *, detach: bool = True) -> Said:
        """`run --resume`, as a user does whose run has ended early."""
        self.resumes += 1
        said = self.cli("run", "--resume", self.run_id, *["--detach"] * detach)
        self.touch()
        return said

    # --------------------------------------------------------------- processes

    def processes(self, role: str = "") -> list[Proc]:
        """Return the run's living processes (of one role), the user's commands left out."""
        found = [each for each in machine.processes(self.token) if each.role != "command"]
        return [each for each in found if not role or each.role == role]

    def is_live(self) -> bool:
        """Return whether the supervisor named in the run's lock file is a living process."""
        try:
            words = (self.run_path / "run.lock").read_text(errors="replace").split()
        except FileNotFoundError:
            return False
        known = len(words) >= 2 and words[0].isdigit() and words[1].isdigit()
        if known and machine.start_time(int(words[0])) == int(words[1]):
            return True
        # A damaged lock file names nobody: look at the processes themselves.
        return not known and bool(self.processes("supervisor"))

    def rest(self, rng: random.Random) -> str:
        """Bring the run to rest in one of a user's ways; return which."""
        way = rng.choice(("stop", "kill", "SIGKILL to all")) if self.is_live() else "at rest already"
        if way == "SIGKILL to all":
            for each in self.processes():
                each.signal(signal.SIGKILL)
        elif way != "at rest already":
            self.cli(way, self.run_id)
        self.watch(lambda: False)
        self.quiet()
        return way

    def quiet(self) -> list[Proc]:
        """Wait for the run's processes to end, the supervisor's death assumed. Return those that do not."""
        self.touch()
        deadline = time.monotonic() + STILL_SECONDS
        while (found := self.processes()) and time.monotonic() < deadline:
            time.sleep(5 * POLL_SECONDS)
        return found

    # ------------------------------------------------------------------ waiting

    def watch(self, until: Callable[[], bool], seconds: float = float("inf")) -> bool:
        """Wait for `until()`, at most `seconds`, and only while the run lives. Return whether it came true.

        Raises: Hang if the run lives and shows no sign of work.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.journal.poll()
            if until():
                return True
            if not self.is_live() or time.monotonic() >= deadline:
                self.journal.poll()
                return until()
            self._look_for_work()
            time.sleep(POLL_SECONDS)

    def touch(self) -> None:
        """Begin a new bound: something has just happened to the run."""
        self._signature, self._work = (), (time.monotonic(), 0)
        self._spinning_since = time.monotonic()

    def _look_for_work(self) -> None:
        now = time.monotonic()
        if now - self._looked < 1.0:
            return
        self._looked = now
        logs = sum(path.stat().st_size for path in (self.run_path / "logs").glob("*") if path.is_file())
        signature = (self.journal.size, logs)
        ticks = sum(
            machine.cpu_ticks(each.pid) for each in self.processes("trainer") + self.processes("worker")
        )
        if signature != self._signature:
            self._signature, self._spinning_since = signature, now
        if signature != self._signature or ticks > self._work[1] + 50 or ticks < self._work[1]:
            self._work = (now, ticks)
        if now - self._work[0] > STILL_SECONDS or now - self._spinning_since > SPIN_SECONDS:
            alive = ", ".join(f"{each.role} {each.pid}" for each in self.processes())
            raise Hang(f"state {self.journal.state}: no record, log line or work; alive: {alive}")

    # -------------------------------------------------------------------- homes

    def move_to(self, home: Path) -> None:
        """Go on with another home folder."""
        self.home = home
        self.journal.follow_from_end(self.journal_path)

    @contextmanager
    def stranger(self, script: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A process of another program that prints a line when it holds what it wants; ended on leaving.

        Raises: NotPossible if it ends without the line, because another stranger holds that.
        """
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env={**self.environment(), machine.STRANGER: "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise NotPossible("another process holds it")
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        """End all that is left of the run."""
        machine.kill_all(self.token)


def paths_in(text: str) -> list[Path]:
    """Return the absolute paths that a message names."""
    return [Path(word) for word in re.findall(r"(?<![\w.])(/[^\s:;,'\"`)]+)", text)]


def _without_core_dumps() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
