"""Charts, exports and rebuilds at the size of a long experiment."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from store.database import Database
from store.export import export
from store.home import RunFolder
from store.journal import JournalWriter
from store.query import Store
from tests.bench.store.figures import Figure
from tests.bench.store.load import batch

REPEATS = 9
# As long as real ids: DuckDB's text statistics cover eight bytes, so shorter ids are found faster.
# A run with one series.
LONG_SERIES = "long-s0-20260131-235959"
# A run with twenty series and a tenth of the rows.
WIDE_RUN = "wide-s0-20260131-235959"
# A noisy falling loss of float32 precision, one point every 10 ms.
POINT = "(2 * exp(-range / 2e6) + 0.1 * random())::FLOAT::DOUBLE, 1.79e9 + range / 100"


def fill(home: Path, rows: int) -> None:
    """Fill the store of `home` with two runs, for measurements at scale.

    One has a single series of `rows` rows. The other has 20 series, with a tenth of the rows in all.
    """
    home.mkdir(parents=True, exist_ok=True)
    with Database(home).writing(patience=5.0) as connection:
        for run_id in (LONG_SERIES, WIDE_RUN):
            connection.execute(
                "INSERT INTO store.run VALUES (?, ?, 'bench', 0, '{}', 1.79e9)", [run_id, run_id]
            )
        connection.execute(
            f"INSERT INTO store.scalar SELECT '{LONG_SERIES}', 'sft/train/loss', range, {POINT} FROM range({rows})"
        )
        connection.execute(
            f"INSERT INTO store.scalar SELECT '{WIDE_RUN}', 'sft/bench/m' || lpad((range % 20)::VARCHAR, 2, '0'), "
            f"range // 20, {POINT} FROM range({rows // 10})"
        )


def scale_figures(home: Path, rows: int) -> list[Figure]:
    """Measure medians over a store filled by `fill` with `rows` rows.

    The targets are for 10 million.
    """
    store = Store(home)
    size = f"{rows / 1e6:g} M"
    return [
        Figure(
            f"chart, 400 buckets, run of {rows / 1e7:g} M rows",
            _chart(store, WIDE_RUN, "sft/bench/m07"),
            15,
            "ms",
        ),
        Figure(
            f"chart, 400 buckets, one series of {size}",
            _chart(store, LONG_SERIES, "sft/train/loss"),
            60,
            "ms",
        ),
        Figure(f"export of {size} rows, Parquet", _export(store, home / "exports"), 1.3, "s"),
    ]


def rebuild_figure(home: Path, rows: int) -> Figure:
    """Measure rows a second from journals into a store that was deleted."""
    with JournalWriter(RunFolder(home, "rebuilt").journal) as journal:
        number = written = 0
        while written < rows:
            records = batch(number)
            journal.append(records)
            number, written = number + 1, written + len(records)
    start = time.perf_counter()
    applied = Store(home).catch_up()
    seconds = time.perf_counter() - start
    if applied != written:
        raise AssertionError(f"{applied} rows of {written} were rebuilt")
    return Figure("rebuilt from journals, rows/s", applied / seconds, 300_000, "/s", at_least=True)


def _chart(store: Store, run_id: str, metric: str) -> float:
    return 1000 * _median(lambda: store.series(run_id, metric, buckets=400))


def _export(store: Store, out: Path) -> float:
    seconds = _median(lambda: export(store, [], ["metrics"], "parquet", out), repeats=3)
    shutil.rmtree(out)
    return seconds


def _median(action: Callable[[], object], repeats: int = REPEATS) -> float:
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return median(times)
