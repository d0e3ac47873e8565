"""A supervisor's load on the store, as a separate process.

The load is 2,000 rows a second, and one ingest a second.
`python -m tests.bench.store.load HOME RUN SECONDS` prints its timings as one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.database import Database
from store.home import RunFolder
from store.ingest import Ingester
from store.journal import JournalWriter
from store.records import RunRow, Scalar

ROWS_A_SECOND = 2000
BATCH_SECONDS = 0.1
METRICS = 20


class TimedDatabase(Database):
    """A Database that records how long each write held the file, in seconds."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.held: list[float] = []

    @contextmanager
    def _gated(self, patience: float, *, shared: bool) -> Iterator[None]:
        with super()._gated(patience, shared=shared):
            start = time.perf_counter()
            yield
            if not shared:
                self.held.append(time.perf_counter() - start)


def batch(number: int) -> list[Scalar]:
    """Return the scalars of batch `number`: consecutive steps of each metric.

    Their number follows from ROWS_A_SECOND.
    """
    steps = int(ROWS_A_SECOND * BATCH_SECONDS) // METRICS
    return [
        Scalar(f"grpo/bench/m{metric:02}", number * steps + step, (metric + step) / 7)
        for step in range(steps)
        for metric in range(METRICS)
    ]


def run(home: Path, run_id: str, seconds: float) -> dict[str, object]:
    """Write and ingest for `seconds`.

    Returns: acknowledgement and hold times in seconds, number of rows, and fraction of a core.
    """
    database = TimedDatabase(home)
    ingester = Ingester(database)
    acknowledged: list[float] = []
    rows = 0
    with JournalWriter(RunFolder(home, run_id).journal) as journal:
        journal.append([RunRow(run_id, "bench", 0, {})])
        ingester.tick()
        database.held.clear()
        start, used = time.perf_counter(), time.process_time()
        due, tick = start, start + 1.0
        for number in range(int(seconds / BATCH_SECONDS)):
            records = batch(number)
            begin = time.perf_counter()
            journal.append(records)
            acknowledged.append(time.perf_counter() - begin)
            rows += len(records)
            if time.perf_counter() >= tick:
                ingester.tick()
                tick += 1.0
            due += BATCH_SECONDS
            time.sleep(max(0.0, due - time.perf_counter()))
        wall, used = time.perf_counter() - start, time.process_time() - used
    return {
        "acknowledged": acknowledged,
        "held": database.held,
        "rows": rows,
        "wall": wall,
        "core": used / wall,
    }


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))))
