"""What tests of the store share: a run with nothing but rows in its journal, and what of them the store shows."""

from __future__ import annotations

from pathlib import Path

from store.home import RunFolder
from store.journal import JournalWriter
from store.query import Store
from store.records import Record, Scalar

RUN = "demo-s0-1"


def scalars(count: int, start: int = 0) -> list[Record]:
    return [Scalar("sft/train/loss", step, step / 7, ts=100.0 + step) for step in range(start, start + count)]


def journaled(home: Path, *batches: list[Record], run_id: str = RUN) -> None:
    with JournalWriter(RunFolder(home, run_id).journal) as writer:
        for batch in batches:
            writer.append(batch)


def steps(store: Store, run_id: str = RUN) -> list[int]:
    _, rows = store.sql(f"SELECT step FROM scalar WHERE run_id = '{run_id}' ORDER BY rowid")
    return [step for (step,) in rows]
