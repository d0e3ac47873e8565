"""All targets of the store with their figures: `python -m tests.bench.store`.

Exit status 1 if one is missed.
The complete run takes about three minutes and 1 GB of disk on two cores; options reduce it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.bench.store.figures import Figure, table
from tests.bench.store.kills import kill_figures
from tests.bench.store.live import live_figures
from tests.bench.store.scale import fill, rebuild_figure, scale_figures


def main() -> int:
    """Measure what the options select and print the table."""
    options = _parser().parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="store-bench-", dir=options.folder) as folder:
        home = Path(folder)
        if options.rows:
            fill(home / "history", options.rows)
            figures += scale_figures(home / "history", options.rows)
            figures.append(rebuild_figure(home / "rebuild", options.rows // 10))
        if options.seconds:
            (home / "history").mkdir(exist_ok=True)
            figures += live_figures(home / "history", options.seconds)
        if options.kills:
            (home / "killed").mkdir()
            figures += kill_figures(home / "killed", options.kills)
    print(table(figures))
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    return 0 if all(figure.met for figure in figures) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.store", description="Measures the store's targets."
    )
    parser.add_argument(
        "--rows", type=int, default=10_000_000, help="rows of the long series; 0 leaves charts out"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of live load; 0 leaves it out")
    parser.add_argument("--kills", type=int, default=50, help="rounds of kill -9; 0 leaves them out")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to work; a disk, not a memory file system"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
