"""A metric's history for a chart, reduced in SQL.

Millions of points become some hundred buckets.
"""

from __future__ import annotations

import duckdb
import numpy as np

from store.results import Series

# No run or metric has an empty name. With a list DuckDB 2.0 compares the column's dictionary; with an equality it
# compares every row: 20 ms of CPU against 35 for 10 million rows.
_OWN = "FROM store.scalar WHERE run_id IN ($run, '') AND metric IN ($metric, '')"
_COLUMNS = ("step", "mean", "low", "high", "ts", "nans", "infs")
_PLAIN = "sum(value) / count(*) AS mean, min(value) AS low, max(value) AS high, 0 AS nans, 0 AS infs"
_GAPPED = (
    "avg(value) FILTER (isfinite(value)) AS mean, min(value) FILTER (isfinite(value)) AS low, "
    "max(value) FILTER (isfinite(value)) AS high, count(*) FILTER (isnan(value)) AS nans, "
    "count(*) FILTER (isinf(value)) AS infs"
)


def reduced(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    metric: str,
    buckets: int,
    start: int | None = None,
    end: int | None = None,
    *,
    times: bool = False,
) -> Series:
    """Reduce a metric of a run to at most `buckets` buckets of equal width.

    With at most `buckets` steps, each point has its own bucket. Reading `times` takes a fifth longer.

    Args:
        start: first step, included; None for the first recorded.
        end: last step, included; None for the last recorded.
        times: read the time of each bucket's last point, Unix seconds.
    """
    names = {"run": run_id, "metric": metric}
    extent = _extent(connection, names)
    if extent is None:
        return Series(metric, *(np.empty(0) for _ in _COLUMNS))
    low = extent[0] if start is None else max(start, extent[0])
    high = extent[1] if end is None else min(end, extent[1])
    width = max(1, -(-(high - low + 1) // buckets))
    time = "max(ts)" if times else "'nan'::DOUBLE"
    # The bound limits the number of groups for DuckDB. It then finds few groups without hashing.
    rest = (
        f"{time} AS ts {_OWN} AND step <= {high} {'' if start is None else f'AND step >= {start}'} "
        f"GROUP BY (step - {low}) // {width} ORDER BY 1"
    )
    found = _read(connection, names, _PLAIN, rest)
    # Filters cost time, and few series need them.
    return found if np.isfinite(found.mean).all() else _read(connection, names, _GAPPED, rest)


def _read(connection: duckdb.DuckDBPyConnection, names: dict[str, str], values: str, rest: str) -> Series:
    columns = connection.execute(f"SELECT max(step) AS step, {values}, {rest}", names).fetchnumpy()
    # A masked entry is a NULL: the bucket has no finite value.
    filled = (np.ma.filled(columns[name].astype(np.float64), np.nan) for name in _COLUMNS)
    return Series(names["metric"], *filled)


def _extent(connection: duckdb.DuckDBPyConnection, names: dict[str, str]) -> tuple[int, int] | None:
    """Return the first recorded and the highest step of a metric.

    DuckDB reads the row groups with the highest steps first and skips those without a higher one.

    Returns: None without rows.
    """
    found = connection.execute(
        f"(SELECT step {_OWN} LIMIT 1) UNION ALL (SELECT step {_OWN} ORDER BY step DESC LIMIT 1)", names
    ).fetchall()
    return (min(found)[0], max(found)[0]) if found else None
