"""A metric's history as a chart wants it, reduced in SQL: some hundreds of buckets out of millions of points."""

from __future__ import annotations

import duckdb
import numpy as np

from store.results import Series


def reduced(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    metric: str,
    buckets: int,
    start: int | None = None,
    end: int | None = None,
) -> Series:
    """`metric` of a run between the steps `start` and `end` (both included) in at most `buckets` buckets.

    Where there are no more steps than buckets each point stands for itself.
    """
    points = "FROM store.scalar WHERE run_id = $run AND metric = $metric"
    names: dict[str, object] = {"run": run_id, "metric": metric}
    for bound, sign, name in ((start, ">=", "first"), (end, "<=", "last")):
        if bound is not None:
            points += f" AND step {sign} ${name}"
            names[name] = bound
    low, high = connection.execute(f"SELECT min(step), max(step) {points}", names).fetchall()[0]
    if low is None:
        return Series(metric, *(np.empty(0) for _ in range(5)))
    width = max(1, -(-(high - low + 1) // buckets))
    columns = connection.execute(
        f"SELECT avg(step) AS step, avg(value) AS mean, min(value) AS low, max(value) AS high, max(ts) AS ts {points} "
        f"GROUP BY (step - {low}) // {width} ORDER BY 1",
        names,
    ).fetchnumpy()
    return Series(
        metric, *(np.asarray(columns[name], np.float64) for name in ("step", "mean", "low", "high", "ts"))
    )
