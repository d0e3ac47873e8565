"""First process of a container; everything in the container ends with it.

    docker run … mathrl-tui ARGS ─▶ this ─▶ mathrl-tui ARGS, on the same terminal
                                     │ after its exit: stay while a run or a server is alive; Enter opens the console
                                     └ SIGTERM: send it to all processes and wait for their exit

So closing the console or `run --detach` does not end a run. Orphans are adopted and reaped.
`python -m mathrl_tui.first_process` has no command and stays until it is stopped.
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
# Docker sends SIGKILL 10 s after SIGTERM.
FAREWELL_SECONDS = 8.0
TERMINATED = 128 + signal.SIGTERM
SUPERVISOR = "engine.supervisor"
# <linux/prctl.h>
SET_CHILD_SUBREAPER = 36


class _Stopped(BaseException):
    """SIGTERM was received.

    It is not an Exception, so no handler catches it as one.
    """


def stay(command: Sequence[str], again: Sequence[str] = ()) -> int:
    """Run `command`, then stay until all processes started here exited.

    Without a command, stay until stopped. When a user presses Enter after the command's exit, `again` is run.

    Returns: the command's exit status; 1 if that is 0 and a run that it left did not end as done; 143 after
        SIGTERM.
    """
    # Become the parent of orphans, even if an init is the first process.
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # The terminal also sends SIGINT to the command, which then asks the user. SIGHUP means that the terminal is closed.
    # Unlike SIG_IGN, handlers are not inherited.
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
    """State of the first process: its children and its terminal."""

    def __init__(self) -> None:
        # True if an adopted run has not ended as done.
        self.has_failed = False
        # Supervisor's pid → run.
        self._adopted: dict[int, str] = {}
        self._has_terminal = sys.stdin.isatty()

    def run(self, command: Sequence[str]) -> int:
        """Run `command` to its exit and return its status.

        Other children that exit are reaped.
        """
        process = subprocess.Popen(command, env=isolated.environment())
        while (ended := os.waitpid(-1, 0))[0] != process.pid:
            self._note(*ended)
        status = os.waitstatus_to_exitcode(ended[1])
        process.returncode = status
        return status if status >= 0 else 128 - status

    def is_needed(self) -> bool:
        """Reap exited children, and return True while any is alive.

        Prints the runs that keep running.
        """
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
            words = f"still running: {runs}; this container stays until they end; {opens}SIGTERM (docker stop) ends all"
            print(words, file=sys.stderr, flush=True)
        return True

    def is_asked(self) -> bool:
        """Wait for LOOK_SECONDS at most; return True if a user pressed Enter."""
        watched = [sys.stdin] if self._has_terminal else []
        if not select.select(watched, [], [], LOOK_SECONDS)[0]:
            return False
        try:
            self._has_terminal = bool(os.read(sys.stdin.fileno(), 1024))
        except OSError:
            self._has_terminal = False
        return self._has_terminal

    def end_all(self) -> None:
        """Send SIGTERM to all processes started here, and wait for their exit.

        The wait is FAREWELL_SECONDS at most.
        """
        signal.signal(signal.SIGALRM, _stop)
        signal.alarm(round(FAREWELL_SECONDS))
        try:
            if os.getpid() == 1:
                # This includes the processes of `docker exec`, which do not have a parent here.
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
    """Return pid → run for the supervisors among this process's children."""
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
