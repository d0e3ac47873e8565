"""`kill -9` at random moments, with restarts.

Two ingesting writers and one ingester are killed and restarted.
`python -m tests.bench.store.kills HOME RUN` is one of the writers; without RUN it is the ingester.
A writer continues after the last step of its journal and prints each acknowledged step.
"""

from __future__ import annotations

import random
import select
import subprocess
import sys
import time
from pathlib import Path

from store import isolated
from store.home import RunFolder
from store.journal import JournalWriter, read
from store.query import Store
from store.records import RunRow, Scalar
from tests.bench.store.figures import Figure

BATCH_ROWS = 50
RUNS = ("killed-a", "killed-b")
METRIC = "grpo/bench/step"


def write_for_ever(home: Path, run_id: str) -> None:
    """Append batches of consecutive steps, and ingest at times.

    Each last acknowledged step is printed.
    """
    store, folder = Store(home), RunFolder(home, run_id).journal
    with JournalWriter(folder) as journal:
        journal.append([RunRow(run_id, "bench", 0, {})])
        step = 1 + max((row.step for row in read(folder)[0] if isinstance(row, Scalar)), default=-1)
        while True:
            journal.append([Scalar(METRIC, number, number / 3) for number in range(step, step + BATCH_ROWS)])
            step += BATCH_ROWS
            print(step - 1, flush=True)
            if random.random() < 0.3:
                store.ingest()


def ingest_for_ever(home: Path) -> None:
    """Ingest repeatedly, as fast as possible."""
    store = Store(home)
    print("ready", flush=True)
    while True:
        store.ingest()


def kill_figures(home: Path, rounds: int, seed: int = 0) -> list[Figure]:
    """Kill all processes `rounds` times.

    Count acknowledged rows that are missing or duplicated in the store.
    """
    moments = random.Random(seed)
    acknowledged = dict.fromkeys(RUNS, -1)
    for _ in range(rounds):
        writers = {run_id: _start(home, run_id) for run_id in RUNS}
        ingester = _start(home)
        for process in (*writers.values(), ingester):
            _first_line(process)
        # The moment of the kill is random.
        time.sleep(moments.uniform(0.0, 0.3))
        for process in (*writers.values(), ingester):
            process.kill()
        for run_id, process in writers.items():
            acknowledged[run_id] = max(acknowledged[run_id], _last_step(process.communicate()[0]))
        ingester.communicate()
    return _counted(home, acknowledged, rounds)


def _counted(home: Path, acknowledged: dict[str, int], rounds: int) -> list[Figure]:
    lost = twice = 0
    store = Store(home)
    for run_id, last in acknowledged.items():
        _, rows = store.sql(f"SELECT step, count(*) FROM scalar WHERE run_id = '{run_id}' GROUP BY step")
        counts = dict(rows)
        lost += sum(1 for step in range(last + 1) if step not in counts)
        twice += sum(1 for count in counts.values() if count > 1)
    rows_seen = sum(acknowledged.values()) + len(acknowledged)
    return [
        Figure(f"kill -9 × {rounds}: lost of {rows_seen} acknowledged", lost, 0, "rows"),
        Figure(f"kill -9 × {rounds}: twice", twice, 0, "rows"),
    ]


def _start(home: Path, *run_id: str) -> subprocess.Popen[str]:
    command = isolated.command("tests.bench.store.kills", str(home), *run_id)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=isolated.environment())


def _first_line(process: subprocess.Popen[str]) -> None:
    """Wait until `process` works; its later output stays in the pipe."""
    if process.stdout is None or not select.select([process.stdout], [], [], 30)[0]:
        raise TimeoutError("a process of the kill campaign did not begin within 30 s")


def _last_step(printed: str) -> int:
    """Return the number of the last complete line.

    A line without its end was cut by the kill.
    """
    whole = printed[: printed.rfind("\n") + 1].split()
    return int(whole[-1]) if whole else -1


if __name__ == "__main__":
    if len(sys.argv) > 2:
        write_for_ever(Path(sys.argv[1]), sys.argv[2])
    ingest_for_ever(Path(sys.argv[1]))
