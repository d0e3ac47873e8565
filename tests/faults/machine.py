"""Processes of one run, as /proc shows them. The product is not asked."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Every process that a run starts inherits this variable, wherever its home folder is moved to.
MARK = "MATHRL_FAULTS_RUN"
# Marks the campaign's own processes in a run (a parked database client, say): they are no part of the product.
STRANGER = "MATHRL_FAULTS_STRANGER"
ROLES = ("supervisor", "trainer", "worker", "grader", "tracker", "command", "other")


@dataclass(frozen=True, slots=True)
class Proc:
    """A process; pid and start time together name it for good."""

    pid: int
    started: int
    role: str
    command: str

    @property
    def is_alive(self) -> bool:
        return start_time(self.pid) == self.started

    def signal(self, number: int) -> None:
        """Send a signal. A process that has ended is left alone."""
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def start_time(pid: int) -> int | None:
    """Return field 22 of /proc/PID/stat; None if the process is gone or a zombie."""
    fields = _stat(pid)
    return None if not fields or fields[0] in "ZX" else int(fields[19])


def cpu_ticks(pid: int) -> int:
    """Return the CPU time that a process has used, in clock ticks; 0 if it is gone."""
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def processes(token: str) -> list[Proc]:
    """Return the living processes of the run marked `token`, oldest first."""
    return sorted(_marked(token), key=lambda each: (each.started, each.pid))


def kill_all(token: str) -> None:
    """End every process of the run, and the campaign's own ones in it."""
    for _ in range(10):
        found = list(_marked(token, strangers=True))
        for each in found:
            each.signal(signal.SIGKILL)
        if not found:
            return


def stacks(found: list[Proc]) -> str:
    """Return where every thread of some processes waits: from gdb if it is installed, else from the kernel."""
    lines = []
    for each in found:
        lines.append(f"{each.role} {each.pid}: {each.command}")
        if shutil.which("gdb"):
            command = ["gdb", "-p", str(each.pid), "-batch", "-ex", "thread apply all bt 25"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines.append(done.stdout)
        for task in Path(f"/proc/{each.pid}/task").glob("*"):
            try:
                waits = f"{(task / 'comm').read_text().strip()}: {(task / 'wchan').read_text()}"
            except OSError:  # it has ended, or its state is not for this user
                continue
            lines.append(f"  {task.name} {waits}")
    return "\n".join(lines)


def _marked(token: str, strangers: bool = False) -> Iterator[Proc]:
    wanted = f"{MARK}={token}".encode()
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        try:
            environment = (path / "environ").read_bytes().split(b"\0")
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if wanted not in environment or (f"{STRANGER}=1".encode() in environment and not strangers):
            continue
        started = start_time(int(path.name))
        if started is not None:
            yield Proc(int(path.name), started, _role(command, environment), command)


def _role(command: str, environment: list[bytes]) -> str:
    if "resource_tracker" in command:
        return "tracker"
    if "engine.grading.symbolic" in command:
        return "grader"
    if "engine.supervisor" in command:
        return "supervisor"
    for entry in environment:
        if entry.startswith(b"MATHRL_PROCESS=") and "multiprocessing" in command:
            return entry.rpartition(b":")[2].decode()
    return "command" if "mathrl_tui" in command else "other"


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text[text.rindex(")") + 2 :].split()
