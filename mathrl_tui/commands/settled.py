"""The store with everything in it that runs have journaled until now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.query import Store


def settled_store(home: Path) -> Store:
    """The store of `home` after an ingest that waits some seconds for others."""
    from store.query import Store

    store = Store(home)
    store.settle()
    return store
