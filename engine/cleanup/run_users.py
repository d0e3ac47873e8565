"""Users of a run: its processes, other processes, and dependent runs.

Other processes are those with a file of the run open. A dependent run was made from this one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.ipc.pidfile import ROLES, lock_path, pid_path, recorded
from engine.ipc.process_tree import marked
from store.home import RunFolder, run_ids
from store.locks import is_locked
from store.records import LIVE_STATES, Event
from store.run_progress import folded
from store.tail import read_tail


def user_of(folder: RunFolder) -> str:
    """Return which process uses the run's folder, in a few words.

    The run's own supervisor is not searched for: a caller that holds `run.lock` knows that it is not running.

    Returns: "" if no process uses it.
    """
    for role in ROLES:
        if is_locked(pid_path(folder, role)) or any(marked(folder, role)):
            return f"its {role} is still ending"
    for place in (folder.path, folder.journal):
        for pid, name in _other_users(place):
            return f"process {pid} ({name}) uses {place}"
    return ""


def has_ended(folder: RunFolder) -> bool:
    """Return True if the end of the run is in its journal.

    Its supervisor may still be exiting.
    """
    events = (record for record in read_tail(folder.journal).records if isinstance(record, Event))
    return folded(events).state not in {"", *LIVE_STATES}


def is_ending(folder: RunFolder) -> bool:
    """Return True if a process of the run is still exiting.

    It is a child, or the supervisor that has released its lock.
    """
    if any(is_locked(pid_path(folder, role)) for role in ROLES):
        return True
    last = recorded(lock_path(folder))
    return (
        last is not None
        and last.is_alive
        and last.pid != os.getpid()
        and _uses(Path(f"/proc/{last.pid}"), os.fsencode(folder.path.resolve()))
    )


def dependents(home: Path, run_id: str) -> dict[str, list[str]]:
    """Return the runs that were made from `run_id`, with the fields.

    The fields are those of the configuration that contain the run's id or a path in it.
    """
    found = {}
    for other in run_ids(home):
        if other == run_id:
            continue
        try:
            config = json.loads(RunFolder(home, other).config.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        fields = [name for name, text in _texts(config) if _names(text, run_id)]
        if fields:
            found[other] = fields
    return found


def _names(text: str, run_id: str) -> bool:
    return text == run_id or f"/runs/{run_id}/" in f"{text}/"


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in a configuration, with its dotted field name."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, f"{name}.{key}".removeprefix(".").removeprefix("profile."))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, name)


def _other_users(folder: Path) -> Iterator[tuple[int, str]]:
    """Yield processes that use `folder`, with what they use.

    A process uses it if it works in the folder, has a file of it open or mapped, or has its path as an
    argument.
    """
    if not folder.is_dir():
        return
    place = os.fsencode(folder.resolve())
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid() and _uses(process, place):
            yield int(process.name), _name(process)


def _uses(process: Path, place: bytes) -> bool:
    try:
        links = [process / "cwd", *(process / "fd").iterdir()]
        texts = [(process / name).read_bytes() for name in ("cmdline", "maps")]
    # The process has exited, or belongs to another user.
    except OSError:
        return False
    targets = (_target(link) for link in links)
    if any(target == place or target.startswith(place + b"/") for target in targets):
        return True
    arguments = texts[0].split(b"\0")
    return any(place + b"/" in argument + b"/" for argument in arguments) or place + b"/" in texts[1]


def _target(link: Path) -> bytes:
    try:
        return os.fsencode(link.readlink())
    except OSError:
        return b""


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"
