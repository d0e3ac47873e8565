"""The store with everything in it that runs have journaled until now, and what is missing from it."""

from __future__ import annotations

from collections.abc import Collection
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


def warn_of_damage(store: Store, run_ids: Collection[str] | None = None) -> None:
    """Print one line to stderr for each of `run_ids` (None: every run) whose journal is damaged."""
    from mathrl_tui.commands.printing import print_notice
    from mathrl_tui.core.text import harmless
    from store.damage import summary

    for run_id, damages in store.damages().items():
        if run_ids is None or run_id in run_ids:
            print_notice(harmless(summary(run_id, damages)))
