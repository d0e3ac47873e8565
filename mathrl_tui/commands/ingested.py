"""The store after an ingest, and warnings about missing rows."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.query import Store


def ingested_store(home: Path) -> Store:
    """Return the store of `home` after an ingest.

    The ingest waits some seconds for other processes.
    """
    from store.query import Store

    store = Store(home)
    store.catch_up()
    return store


def warn_of_damage(store: Store, run_ids: Collection[str] | None = None) -> None:
    """Print one line to stderr for each run with a damaged journal.

    `run_ids` selects the runs; None is every run.
    """
    from mathrl_tui.commands.printing import print_notice
    from mathrl_tui.core.text import harmless
    from store.damage import summary

    for run_id, damages in store.damages().items():
        if run_ids is None or run_id in run_ids:
            print_notice(harmless(summary(run_id, damages)))
