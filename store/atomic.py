"""Replacement of a file as a whole.

    replace_text(path, text)                                      a text
    with replacing(path) as draft, draft.open("wb") as file: …    a stream, or a file that a library writes

A reader sees the old file or the new one, never a part. If the block fails, the old file stays and the draft is
removed, because the disk may be full.

Two kinds of replacement are separate. The rename of a folder fails if another process was first, and the folder's files
are synced one by one (engine.training.checkpoint, engine.data.cache). DuckDB writes a log next to its file, and both
are replaced under the store's gate (store.database).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.private import sync, write_text


@contextmanager
def replacing(path: Path, *, writer: str = "", durable: bool = True) -> Iterator[Path]:
    """Yield the path of a draft, which replaces `path` when the block ends.

    The block creates the draft and chooses its mode. If the block raises, the draft is removed and `path`
    stays unchanged. The draft's name has another ending than `path`, so a search by ending never finds it.

    Args:
        writer: distinguishes the drafts of processes that write `path` at the same time.
        durable: sync the file and its directory, so that the new content survives a power failure.
    Raises: OSError if the draft cannot be synced or renamed.
    """
    draft = path.with_name(f".{path.name}{writer}.part")
    # A process that was killed may have left it, and with another mode.
    draft.unlink(missing_ok=True)
    try:
        yield draft
        if durable:
            sync(draft)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def replace_text(path: Path, text: str, *, writer: str = "", errors: str = "strict") -> None:
    """Replace the content of `path` durably; a new file gets mode 0600.

    Args:
        writer: see `replacing`.
        errors: of the UTF-8 encoding.
    """
    with replacing(path, writer=writer) as draft:
        write_text(draft, text, errors)
