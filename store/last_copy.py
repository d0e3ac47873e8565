"""The store's last consistent copy, used while the file is held.

A copy is made without the gate while the file does not change. It stays open until the file changes. It has
no name, so nothing remains of it when the process ends.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import duckdb

from store.consistent_copy import Signature, consistent_copy, signature
from store.instance import opened_copy
from store.scratch import scratch_folder

log = logging.getLogger(__name__)

# By file.
_open: dict[Path, tuple[duckdb.DuckDBPyConnection, Signature]] = {}
# Connections of the parent, in a forked child. Closing them would hang.
_parents: list[duckdb.DuckDBPyConnection] = []
_warned: dict[Path, Signature] = {}


def connection(files: tuple[Path, Path], place: Path | None) -> tuple[duckdb.DuckDBPyConnection, Signature]:
    """Return a connection to a copy of `files`, as `store`, and its state.

    Args:
        files: the store and its log.
        place: directory for the copy; None for the default.
    Raises: FilesChanged, CopyFailed; duckdb.Error if the copy is damaged.
    """
    path = files[0]
    if path in _open and _open[path][1] != signature(files):
        _open.pop(path)[0].close()
    if path not in _open:
        with scratch_folder(place) as folder:
            state = consistent_copy(files, folder)
            _open[path] = (opened_copy(folder / path.name), state)
    return _open[path]


def warned(path: Path, state: Signature, busy: str) -> str:
    """Return one line with the age of an answer and its reason (`busy`).

    The line is logged once for each `state`.
    """
    written = max((one[2] for one in state if one is not None), default=time.time_ns())
    words = f"this answer is from the store as it was {_age(time.time() - written / 1e9)} ago; {busy}"
    if _warned.get(path) != state:
        _warned[path] = state
        log.warning(words)
    return words


def _age(seconds: float) -> str:
    """Return an age in one unit: `12 s`, `5 min`, `3 h`, `2 days`."""
    for length, unit in ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def _reset_after_fork() -> None:
    _parents.extend(found for found, _ in _open.values())
    _open.clear()


os.register_at_fork(after_in_child=_reset_after_fork)
