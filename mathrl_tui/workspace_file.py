"""HOME/workspace.json: marks, looks, tags and notes of the home's runs.

Several consoles may be open on one home. A change is applied to the newest file under a lock, so no console
overwrites what another has set.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mathrl_tui.core.workspace import Workspace, dumped, parsed
from profiles.errors import OperationFailed
from store.atomic import replace_text
from store.locks import locked
from store.private import make_folder, set_aside

NAME = "workspace.json"
_LOCK = "workspace.lock"
# Seconds to wait for another console, which holds the lock for some milliseconds.
PATIENCE = 2.0

Change = Callable[[Workspace], Workspace]


class WorkspaceFault(OperationFailed, ValueError):
    """The file cannot be used; the message is one line."""


def read(home: Path) -> Workspace:
    """Return the workspace of `home`; an empty one without a file.

    Raises: WorkspaceFault if the file is damaged; OSError if it cannot be read.
    """
    path = home / NAME
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return Workspace()
    try:
        return parsed(content)
    except ValueError as error:
        raise WorkspaceFault(
            f"{path}: marks, tags and notes cannot be read ({error}); repair the file, or remove it"
        ) from None


def changed(home: Path, change: Change) -> tuple[Workspace, Path | None]:
    """Apply `change` to the file, and return the result.

    A damaged file is renamed first, and the change is applied to an empty workspace.

    Returns: the workspace, and the new path of a damaged file.
    Raises: OSError if the file cannot be written; LockBusy if another process holds it.
    """
    make_folder(home)
    aside = None
    with locked(home / _LOCK, patience=PATIENCE):
        try:
            before = read(home)
        except WorkspaceFault:
            before, aside = Workspace(), set_aside(home / NAME)
        after = change(before)
        if after != before:
            replace_text(home / NAME, dumped(after), writer=f".{os.getpid()}")
    return after, aside
