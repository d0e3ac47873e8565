"""The first process of a container: everything in the container ends with it.

    docker run … mathrl-tui ARGS ─▶ this ─▶ mathrl-tui ARGS, on the same terminal
                                     │ its end: stays as long as a run or a server lives; Enter opens the console
                                     └ SIGTERM: goes to all processes, whose end is waited for

So closing the console or `run --detach` ends no run. Orphans are adopted and reaped. Started as
`python -m mathrl_tui.first_process` it has no command and stays until it is stopped.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

import psutil

from store import isolated

LOOK_SECONDS = 1.0
FAREWELL_SECONDS = 8.0  # Docker sends SIGKILL 10 s after SIGTERM
TERMINATED = 128 + signal.SIGTERM
SUPERVISOR = "engine.supervisor"
SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


class _Stopped(BaseException):
    """SIGTERM has come; no Exception, so that nothing handles it as one."""


def stay(command: Sequence[str], again: Sequence[str] = ()) -> int:
    """Run `command` (empty: none), then stay until nothing is left that was started here.

    Whenever somebody presses Enter after its end, `again` is run. Without a command it stays until it is stopped.

    Returns: the command's exit status; 1 if that is 0 and a run that it left did not end as done; 143 after SIGTERM.
    """
    # Orphans come here, also if an init is the first process.
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # The terminal sends SIGINT to the command too, which asks; SIGHUP says that nobody looks any more. Handlers, unlike
    # SIG_IGN, are not inherited.
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGHUP, _ignore)
    signal.signal(signal.SIGTERM, _stop)
    first = _First()
    try:
        status = first.run(command) if command else 0
        while first.is_needed() or not command:
            if first.is_asked() and again:
                status = first.run(again)
    except _Stopped:
        first.end_all()
        return TERMINATED
    return status or int(first.has_failed)


def _ignore(*_: object) -> None:
    return None


def _stop(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Stopped


class _First:
    """What the first process knows of its children."""

    def __init__(self) -> None:
        self.has_failed = False  # a run that was adopted has not ended as done
        self._adopted: dict[int, str] = {}  # runs, by their supervisor's pid
        self._has_terminal = sys.stdin.isatty()

    def run(self, command: Sequence[str]) -> int:
        """Run `command` to its end; return its exit status. What else ends meanwhile is reaped."""
        process = subprocess.Popen(command, env=isolated.environment())
        while (ended := os.waitpid(-1, 0))[0] != process.pid:
            self._note(*ended)
        status = os.waitstatus_to_exitcode(ended[1])
        process.returncode = status
        return status if status >= 0 else 128 - status

    def is_needed(self) -> bool:
        """Reap what has ended; return True if something that was started here lives. Says which runs go on."""
        new = {pid: run for pid, run in _supervised().items() if pid not in self._adopted}
        self._adopted |= new
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._note(*ended)
                new.pop(ended[0], None)
        except ChildProcessError:
            return False
        if new:
            runs, opens = ", ".join(new.values()), "Enter opens the console, " if self._has_terminal else ""
            words = f"{runs} goes on, and this container as long; {opens}SIGTERM (docker stop) ends both"
            print(words, file=sys.stderr, flush=True)
        return True

    def is_asked(self) -> bool:
        """Wait for a while; return True if somebody has pressed Enter."""
        watched = [sys.stdin] if self._has_terminal else []
        if not select.select(watched, [], [], LOOK_SECONDS)[0]:
            return False
        try:
            self._has_terminal = bool(os.read(sys.stdin.fileno(), 1024))
        except OSError:
            self._has_terminal = False
        return self._has_terminal

    def end_all(self) -> None:
        """Send SIGTERM to everything that was started here, and wait for its end, FAREWELL_SECONDS at most."""
        signal.signal(signal.SIGALRM, _stop)
        signal.alarm(round(FAREWELL_SECONDS))
        try:
            if os.getpid() == 1:
                # Those of `docker exec` too, which are nobody's children here.
                os.kill(-1, signal.SIGTERM)
            else:
                for process in psutil.Process().children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(signal.SIGTERM)
            while True:
                os.waitpid(-1, 0)
        except (ChildProcessError, ProcessLookupError, _Stopped):
            return

    def _note(self, pid: int, code: int) -> None:
        self.has_failed |= pid in self._adopted and code != 0


def _supervised() -> dict[int, str]:
    """The runs whose supervisors are this process's children, by pid."""
    found = {}
    for process in psutil.Process().children():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if SUPERVISOR in words:
            found[process.pid] = os.path.basename(words[words.index(SUPERVISOR) + 1])  # noqa: PTH119
    return found


if __name__ == "__main__":
    sys.exit(stay(sys.argv[1:]))
