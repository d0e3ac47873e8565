"""Outputs of stages by the content that they follow from: HOME/cache/STAGE/HASH, whole or not there at all.

A folder is built under another name and renamed when everything in it is on disk, so that whoever finds it can trust
it, whatever was killed when. Two runs that build the same one at the same time do not hurt each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from store.private import close_to_others, make_folder


def content_key(facts: Any) -> str:
    """A hash of JSON-ready `facts`: what an output follows from."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """A fresh folder to fill; it becomes `target` when the block ends well, and goes otherwise."""
    make_folder(target.parent)
    folder = target.with_name(f"{target.name}.tmp-{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder, exist_ok=False)
    try:
        yield folder
        _sync(folder)
        _become(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sync_folder(target.parent)


def _become(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():  # else another run was first, with the same content
            raise


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        close_to_others(path)
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` lasting."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
