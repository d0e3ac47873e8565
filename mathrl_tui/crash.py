"""The file that an unhandled error of the console leaves in the home.

    error, screen, size ─▶ write ─▶ HOME/crash-TIME-PID.txt ─▶ one line on stderr

It holds what a report needs: versions, screen, size and traceback. Values of variables are left out, because they
may be private.
"""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from textual import __version__ as textual_version
from textual.worker import WorkerFailed

from mathrl_tui.core.text import one_line
from profiles.errors import OperationFailed
from store.disk_refusal import refusal
from store.private import make_folder, opener
from store.wording import abridged


class ConsoleCrashed(OperationFailed):
    """The console ended by an unhandled error; the message is one line."""


@dataclass(frozen=True, slots=True)
class Crash:
    """An unhandled error, and the screen and size in cells at that moment."""

    error: BaseException
    screen: str
    size: tuple[int, int]

    @property
    def cause(self) -> BaseException:
        """Return the error itself, without the wrapper of a worker."""
        return self.error.error if isinstance(self.error, WorkerFailed) else self.error


def crashed(crash: Crash, home: Path) -> ConsoleCrashed:
    """Write the crash file, and return the error that names it.

    If the file cannot be written, the traceback goes to stderr instead.
    """
    cause = abridged(one_line(str(crash.cause)), 300)
    failed = f"internal error on the screen {crash.screen}: {type(crash.cause).__name__}: {cause}"
    runs = "runs keep running"
    try:
        path = _write(crash, home)
    except OSError as fault:
        print(_report(crash), file=sys.stderr)
        why = refusal(fault) or fault.strerror
        return ConsoleCrashed(f"{failed}; {runs}; {home}: no crash file ({why}): report the traceback above")
    return ConsoleCrashed(f"{failed}; {runs}; report it with the file {path}")


def _write(crash: Crash, home: Path) -> Path:
    make_folder(home)
    path = home / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    with open(path, "x", encoding="utf-8", errors="backslashreplace", opener=opener) as file:
        file.write(_report(crash))
    return path


def _report(crash: Crash) -> str:
    columns, rows = crash.size
    facts = {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "mathrl-tui": _version(),
        "textual": textual_version,
        "python": f"{platform.python_version()} on {platform.platform()}",
        "screen": crash.screen,
        "size": f"{columns} × {rows} cells",
        "terminal": f"TERM={os.environ.get('TERM', '')} COLORTERM={os.environ.get('COLORTERM', '')}",
    }
    head = "".join(f"{name}: {value}\n" for name, value in facts.items())
    return head + "\n" + "".join(traceback.format_exception(crash.cause))


def _version() -> str:
    try:
        return version("mathrl-tui")
    except PackageNotFoundError:
        return "from source"
