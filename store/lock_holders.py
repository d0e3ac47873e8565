"""Holders of a file lock: process, command, progress, and remedy.

/proc/locks lists holders by the file's device and inode. A lock belongs to an open file, which a child may
have inherited from a holder that has died. /proc/PID/fdinfo then identifies the child. A process in another
PID namespace appears in neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from store.process import Process, stat_fields

# Seconds of waiting after which a search of some milliseconds is worth it.
THOROUGH_SECONDS = 0.25
# Characters of a command line in a message.
LONGEST_COMMAND = 80
# Fields of `stat_fields`: CPU ticks in user mode and in the kernel.
_CPU_TICKS = slice(11, 13)


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A process that holds a lock, and its work so far when it was seen.

    The work is CPU ticks, and bytes and calls of I/O.
    """

    process: Process
    done: tuple[str, ...]


def holders(path: Path, *, thorough: bool = True) -> list[LockHolder]:
    """Return the living processes that hold the lock file `path`.

    Unless `thorough`, processes that inherited the lock are not searched, which would take milliseconds.
    Returns: empty if no holder is visible.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return []
    listed = {pid for pid in _listed(status) if Process.of(pid).is_alive}
    if not listed and thorough:
        listed = set(_inheritors(status))
    return [_seen(pid) for pid in sorted(listed)]


def described(path: Path, before: Sequence[LockHolder], seconds: float) -> str:
    """Describe the holder of `path` and the remedy, in one line.

    Args:
        before: the holders `seconds` ago. A holder that has done nothing since makes no progress.
    """
    found = holders(path, thorough=seconds >= THOROUGH_SECONDS)
    if not found and seconds < THOROUGH_SECONDS:
        return "held by another process"
    if not found:
        return (
            "held by a process that is not visible from here (of another user, in another container, on another "
            "machine)"
        )
    words = _holder(path.parent, found[0], before, seconds)
    others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"held by {words}{others}"


def _holder(home: Path, holder: LockHolder, before: Sequence[LockHolder], seconds: float) -> str:
    """Describe one holder, its state, and the remedy if it is stuck."""
    pid = holder.process.pid
    run_id = _supervised(home, holder.process)
    what = f"the supervisor of run {run_id}" if run_id else _command_line(pid)
    end = f"`mathrl-tui kill {run_id}`" if run_id else f"`kill {pid}`"
    words = f"PID {pid}, {what}"
    state = holder.process.state
    if state in ("T", "t"):
        forced = end if run_id else f"`kill -KILL {pid}`"
        return f"{words}, which was stopped by a signal: `kill -CONT {pid}` continues it, {forced} ends it"
    if holder not in before or seconds < 1.0:
        return words
    waits = " and waits for a disk" if state == "D" else ""
    return f"{words}, which has made no progress for {seconds:.0f} s{waits}: {end} ends it"


def _listed(status: os.stat_result) -> Iterator[int]:
    """Yield the processes that /proc/locks lists as holders of the file."""
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == wanted and int(words[4]) > 0:
            yield int(words[4])


def _inheritors(status: os.stat_result) -> Iterator[int]:
    """Yield other processes that hold the lock through an inherited file."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if any(_locks(entry, Path(file.path), status) for file in os.scandir(entry / "fd")):
                yield int(entry.name)
        # The process has exited, or belongs to another user.
        except OSError:
            continue


def _locks(process: Path, file: Path, status: os.stat_result) -> bool:
    try:
        if not os.path.samestat(file.stat(), status):
            return False
        return "\nlock:" in "\n" + (process / "fdinfo" / file.name).read_text(
            encoding="ascii", errors="replace"
        )
    except OSError:
        return False


def _seen(pid: int) -> LockHolder:
    fields = stat_fields(pid)
    done = [] if fields is None else fields[_CPU_TICKS]
    # The process has exited, or belongs to another user.
    with suppress(OSError):
        done = [*done, Path(f"/proc/{pid}/io").read_text(encoding="ascii", errors="replace")]
    return LockHolder(Process.of(pid), tuple(done))


def _supervised(home: Path, process: Process) -> str:
    """Return the id of the run in `home` that `process` supervises.

    Empty if it does not supervise a run.
    """
    folders = (
        [home] if (home / "run.json").is_file() else [path.parent for path in home.glob("runs/*/run.lock")]
    )
    for folder in folders:
        try:
            if (folder / "run.lock").read_bytes().split() == [b"%d" % process.pid, b"%d" % process.started]:
                return folder.name
        except OSError:
            continue
    return ""


def _command_line(pid: int) -> str:
    """Return a process's command line in quotes.

    It is cut, and control characters are removed.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
    except OSError:
        return "a process that has just ended"
    text = words.decode("utf-8", "replace")
    text = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return f"'{text if len(text) <= LONGEST_COMMAND else text[: LONGEST_COMMAND - 1] + '…'}'"
