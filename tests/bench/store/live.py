"""Two live runs and a console's polls, with and without an export.

The export runs concurrently.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from store import isolated
from store.home import RunFolder
from store.live import LiveTail
from store.query import Store
from tests.bench.store.figures import Figure, percentile
from tests.bench.store.load import ROWS_A_SECOND

# Seconds until the first rows are in the store.
START_SECONDS = 2.0
POLL_SECONDS = 0.05
EXPORT = """
import sys, time
from pathlib import Path
from store.export import NICENESS, export
from store.query import Store

home, out, until, number = Path(sys.argv[1]), Path(sys.argv[2]), time.time() + float(sys.argv[3]), 0
while time.time() < until:
    export(Store(home), [], ["metrics"], "parquet", out / str(number), NICENESS)
    number += 1
"""


@dataclass(slots=True)
class Seen:
    """Measurements of a console, in seconds.

    Attributes:
        tail: duration of each poll of the journal's tail.
        query: duration of each query of the store.
        age: age of the newest row at each poll.
    """

    tail: list[float] = field(default_factory=list)
    query: list[float] = field(default_factory=list)
    age: list[float] = field(default_factory=list)


def live_figures(home: Path, seconds: float) -> list[Figure]:
    """Measure the targets of live runs, on a home with some history.

    Each phase takes `seconds`.
    """
    quiet, loads = _phase(home, seconds, "quiet", export=False)
    exporting, _ = _phase(home, seconds, "export", export=True)
    acknowledged = [each for load in loads for each in load["acknowledged"]]
    held = [each for load in loads for each in load["held"]]
    rate = min(load["rows"] / load["wall"] for load in loads)
    return [
        Figure("acknowledge, p50", percentile(acknowledged, 50), 1, "ms"),
        Figure("acknowledge, p99", percentile(acknowledged, 99), 15, "ms"),
        Figure("sustained rows/s a run, two runs", rate, 0.99 * ROWS_A_SECOND, "/s", at_least=True),
        Figure("core used a run", 100 * max(load["core"] for load in loads), 5, "%"),
        Figure("visible in DuckDB after, p99", percentile(quiet.age, 99) / 1000, 1.2, "s"),
        Figure("file held, p50", percentile(held, 50), 10, "ms"),
        Figure("file held, p99", percentile(held, 99), 45, "ms"),
        Figure("live tail, p99", percentile(quiet.tail, 99), 3, "ms"),
        Figure("SQL poll, p99", percentile(quiet.query, 99), 25, "ms"),
        Figure("SQL poll during an export, p99", percentile(exporting.query, 99), 80, "ms"),
    ]


def _phase(home: Path, seconds: float, name: str, *, export: bool) -> tuple[Seen, list[dict[str, Any]]]:
    """Measure a console's view of two live runs, and the runs' timings.

    With `export`, exports are repeated during the measurement.
    """
    runs = [f"{name}-{which}-s0-20260131-235959" for which in "ab"]
    loads = [_load(home, run_id, seconds + START_SECONDS) for run_id in runs]
    command = [
        sys.executable,
        "-P",
        "-c",
        EXPORT,
        str(home),
        str(home / "exports"),
        str(seconds + START_SECONDS),
    ]
    exporter = subprocess.Popen(command, env=isolated.environment()) if export else None
    seen = _watch(home, runs[0], seconds)
    reports = [json.loads(load.communicate()[0]) for load in loads]
    if exporter is not None:
        exporter.wait()
    return seen, reports


def _load(home: Path, run_id: str, seconds: float) -> subprocess.Popen[str]:
    command = isolated.command("tests.bench.store.load", str(home), run_id, str(seconds))
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=isolated.environment())


def _watch(home: Path, run_id: str, seconds: float) -> Seen:
    """Poll a live run as a console does.

    Each poll reads its journal tail, and one metric from DuckDB.
    """
    store, tail = Store(home), LiveTail(RunFolder(home, run_id).journal)
    seen = Seen()
    _await_first_rows(store, run_id)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        tail.poll()
        seen.tail.append(time.perf_counter() - start)
        start = time.perf_counter()
        series = store.series(run_id, "grpo/bench/m00", times=True)
        seen.query.append(time.perf_counter() - start)
        seen.age.append(time.time() - series.ts[-1])
        time.sleep(POLL_SECONDS)
    return seen


def _await_first_rows(store: Store, run_id: str) -> None:
    deadline = time.monotonic() + 20
    while not store.series(run_id, "grpo/bench/m00").step.size:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{run_id}: no row in the store after 20 s: {store.problem}")
        time.sleep(POLL_SECONDS)
