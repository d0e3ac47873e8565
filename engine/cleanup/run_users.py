"""Who uses a run: a supervisor, its processes, strangers with a file of it open, and runs that were made from it."""

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
    """Return which process uses the run's folder, in a few words; empty if none does.

    A run's own supervisor is not looked for: who holds `run.lock` knows about that.
    """
    for role in ROLES:
        if is_locked(pid_path(folder, role)) or any(marked(folder, role)):
            return f"its {role} is still ending"
    for place in (folder.path, folder.journal):
        for pid, name in _strangers(place):
            return f"process {pid} ({name}) uses {place}"
    return ""


def has_ended(folder: RunFolder) -> bool:
    """Return True if the end of the run is in its journal; its supervisor may still be exiting."""
    events = (record for record in read_tail(folder.journal).records if isinstance(record, Event))
    return folded(events).state not in {"", *LIVE_STATES}


def is_ending(folder: RunFolder) -> bool:
    """Return True if a process of the run is still exiting: a child, or the supervisor that has released its lock."""
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
    """Return the runs whose configuration names `run_id` or a path in it, with the fields that do."""
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
    """Every text in a configuration, with the dotted name of its field."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, f"{name}.{key}".removeprefix(".").removeprefix("profile."))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, name)


def _strangers(folder: Path) -> Iterator[tuple[int, str]]:
    """Processes that work in `folder`, have a file of it open or mapped, or were given its name as an argument."""
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
    except OSError:  # over by now, or another user's
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
