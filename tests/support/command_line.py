"""Runs the program as a person does: its real entry point, in a process of its own, on pipes or on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

from tests.support.places import ROOT

PATIENCE = 60.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment(home: Path) -> dict[str, str]:
    """The environment of a person whose home folder is `home`."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "MATHRL_HOME": str(home), "OMP_NUM_THREADS": "1"}


def mathrl(home: Path, *arguments: str | Path, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """The program's output and exit status, run with pipes from another folder than the source's."""
    return subprocess.run(
        [sys.executable, "-m", "mathrl_tui", *map(str, arguments)],
        cwd=home.parent,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


# Popen alone gives a new session, but no controlling terminal: without one Ctrl-C is a character like any other.
_ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "mathrl_tui", *sys.argv[1:]])
"""
# In place of the program, a shell with a command line.
_IN_SHELL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv("/bin/sh", ["sh", "-c", sys.argv[1]])
"""


class Terminal:
    """The program on a terminal of its own, which is its controlling one."""

    def __init__(self, home: Path, *arguments: str, shell: str = "", **more: str) -> None:
        """`shell`: a command line in place of the program. `more`: variables."""
        self.seen = self.raw = ""
        self._screen, inside = pty.openpty()
        termios.tcsetwinsize(inside, (24, 80))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _IN_SHELL if shell else _ON_TERMINAL, *([shell] if shell else arguments)],
            cwd=home.parent,
            env=environment(home) | more,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        )
        os.close(inside)

    def read_until(self, text: str) -> None:
        """Reads until `text` was shown; fails after PATIENCE seconds."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < deadline, f"waited in vain for {text!r}; seen: {self.seen[-2000:]!r}"
            assert self._read_more(), f"ended before {text!r}; seen: {self.seen[-2000:]!r}"

    @property
    def pid(self) -> int:
        """The program's process."""
        return self._process.pid

    def press(self, keys: str) -> None:
        """Types `keys`; \\x03 is Ctrl-C."""
        os.write(self._screen, keys.encode())

    def close(self) -> None:
        """Takes the terminal away, as a window that is closed does, and waits for the program to end of it."""
        os.close(self._screen)
        self._process.wait(PATIENCE)

    def wait(self) -> int:
        """Reads to the end; the program's exit status."""
        while self._read_more():
            pass
        os.close(self._screen)
        return self._process.wait(PATIENCE)

    def _read_more(self) -> bool:
        select.select([self._screen], [], [], PATIENCE)
        try:
            part = os.read(self._screen, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.raw += part.decode(errors="replace")
        self.seen += _ESCAPES.sub("", part.decode(errors="replace"))
        return bool(part)
