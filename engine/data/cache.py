"""Cached outputs of stages, by the content that they follow from.

An output is HOME/cache/STAGE/HASH, whole or absent. A folder is built under another name and renamed when
everything in it is on disk. So a folder with the final name can be trusted after any crash. Two runs that
build the same folder at the same time do not disturb each other.

Each folder holds a list of digests, which shows later damage by a disk or a copy. A damaged folder is renamed
and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.artifacts import digests
from store.events import LogLine
from store.private import close_to_others, make_folder, sync

if TYPE_CHECKING:
    # Importing it loads numpy, which the launcher does not need.
    from engine.context import Context


def content_key(facts: Any) -> str:
    """Return a short hash of everything that determines an output.

    `facts` must be JSON-ready. Equal facts give equal keys, so the key names the cached output.
    """
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder to fill with a stage's output.

    It is renamed to `target` if the block succeeds, and removed if the block raises.
    """
    make_folder(target.parent)
    folder = target.with_name(f"{target.name}.tmp-{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder, exist_ok=False)
    try:
        yield folder
        digests.write_list(folder, {})
        _sync(folder)
        _become(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sync(target.parent)


def is_whole(context: Context, folder: Path, stage: str) -> bool:
    """Return True if the output of `stage` is in `folder` as it was written.

    A damaged output is renamed and reported, so that the stage can make it again.
    Raises: OSError if it cannot be read.
    """
    if not folder.is_dir():
        return False
    try:
        digests.check(folder)
    except digests.DamagedFile as error:
        aside = _aside(folder)
        folder.rename(aside)
        message = f"{error}; the folder is kept as {aside.name}, and stage {stage} makes its output again"
        context.emit(LogLine("warning").event(message, stage))
        return False
    return True


def _aside(folder: Path) -> Path:
    names = (folder.with_name(f"damaged-{folder.name}-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def _become(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError:
        # Otherwise another run was first, with the same content.
        if not target.is_dir():
            raise


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        close_to_others(path)
        sync(path)
    sync(folder)
