"""Export of results as files for other tools, one file for each kind.

The kinds are metrics, evals, examples, comparisons, watch and config. All are read from one consistent copy
of the store. So an export does not block live runs, and its files agree with each other. A file is written
under a temporary name and then renamed, so a partial file never appears.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import duckdb
import pyarrow as pa

from store.atomic import replacing
from store.comparison import Comparison, run_comparisons
from store.disk_refusal import errno_in
from store.errors import StoreDamaged, StoreError, explained
from store.evaluations import evaluations_in
from store.export_formats import WRITERS
from store.healing import healing
from store.query import Store
from store.records import LOGLIKELIHOOD, SCORED
from store.results import EvalSummary
from store.verdict import Watched, run_watch

ExportKind = Literal["metrics", "evals", "examples", "comparisons", "watch", "config"]
Format = Literal["csv", "markdown", "json", "parquet"]
WHATS: tuple[ExportKind, ...] = get_args(ExportKind)
FORMATS: tuple[Format, ...] = get_args(Format)
# Niceness of a process that only exports.
NICENESS = 10

# UTC.
_TIME = "make_timestamp(CAST(ts * 1000000 AS BIGINT)) AS time"
_METRICS = f"SELECT run_id AS run, metric, step, value, {_TIME} FROM store.scalar"
# A value that does not apply is NULL: tokens and finish need a generated answer, words need a perplexity.
_EXAMPLES = f"""SELECT run_id AS run, arm, step, task, ex_id, sample,
                CASE WHEN outcome NOT IN ('{SCORED}', '{LOGLIKELIHOOD}') THEN correct END AS correct, score, outcome,
                prompt, output, gold, answer,
                CASE WHEN outcome <> '{LOGLIKELIHOOD}' AND (tokens > 0 OR finish <> '') THEN tokens END AS tokens,
                CASE WHEN outcome = '{LOGLIKELIHOOD}' THEN tokens END AS words, nullif(finish, '') AS finish,
                CASE WHEN window_tokens > 0 THEN prompt_cut END AS prompt_cut,
                nullif(window_tokens, 0) AS window_tokens, {_TIME} FROM store.eval_row"""
# `model.source` of the row's run.
_MODEL = ("model", pa.string())
_ARROW = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}

ExportSource = Callable[[duckdb.DuckDBPyConnection, Store, Sequence[str]], str]


@healing
def export(
    store: Store,
    run_ids: Sequence[str],
    what: Sequence[ExportKind],
    format: Format,  # noqa: A002 (the field's own word, and the option's)
    out: Path,
    niceness: int = 0,
) -> list[Path]:
    """Write one file for each kind in `what` to the directory `out`.

    Args:
        run_ids: runs to export; empty for all.
        niceness: added to the calling thread permanently. With NICENESS a command yields to live runs and consoles.
    Returns: the paths of the files.
    Raises: OSError or StoreError if a file cannot be written; the previous file is then unchanged.
    """
    store.catch_up()
    out.mkdir(parents=True, exist_ok=True)
    ending, write = WRITERS[format]
    runs = list(run_ids) or [summary.run for summary in store.runs()]
    paths = []
    with store.database.copied(niceness=niceness) as connection:
        for kind in what:
            query = SOURCES[kind](connection, store, runs)
            path = out / f"{kind}.{ending}"
            with _replacing(path) as draft:
                write(connection, query, kind, draft)
            paths.append(path)
    return paths


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename it to `path` after the block.

    Errors are raised with `path`, because no person knows the temporary name.
    """
    try:
        with replacing(path, writer=f".{os.getpid()}", durable=False) as draft:
            yield draft
    except duckdb.IOException as error:
        if isinstance(failure := explained(error), StoreDamaged):
            raise failure from error
        if number := errno_in(str(error)):
            raise OSError(number, os.strerror(number), str(path)) from error
        raise StoreError(
            f"{path}: cannot be written: {str(error).splitlines()[0]}; choose another folder"
        ) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _table(query: str) -> ExportSource:
    """Return a source that selects rows of one of the store's tables."""

    def source(connection: duckdb.DuckDBPyConnection, store: Store, runs: Sequence[str]) -> str:
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE exported_runs AS SELECT unnest($runs) AS id", {"runs": runs}
        )
        (others,) = connection.execute(
            "SELECT count(*) FROM store.run WHERE run_id NOT IN (FROM exported_runs)"
        ).fetchall()[0]
        return f"{query} WHERE run_id IN (FROM exported_runs)" if others else query

    return source


def _evals(connection: duckdb.DuckDBPyConnection, store: Store, runs: Sequence[str]) -> str:
    models = _models(store, runs)
    rows = [
        asdict(summary) | {"model": models[summary.run]}
        for summary in evaluations_in(connection)
        if summary.run in models
    ]
    return _registered(connection, "evals", EvalSummary, rows)


def _comparisons(connection: duckdb.DuckDBPyConnection, store: Store, runs: Sequence[str]) -> str:
    comparisons = [
        asdict(each if len(runs) == 1 else replace(each, a=f"{run}/{each.a}", b=f"{run}/{each.b}"))
        | {"model": model}
        for run, model in _models(store, runs).items()
        for each in run_comparisons(store, run)
    ]
    return _registered(connection, "comparisons", Comparison, comparisons)


def _watch(connection: duckdb.DuckDBPyConnection, store: Store, runs: Sequence[str]) -> str:
    rows = [
        {"run": run, **asdict(each), "model": model}
        for run, model in _models(store, runs).items()
        for each in run_watch(run_comparisons(store, run), store.config(run).evaluation)
    ]
    columns = [("run", pa.string()), *_columns(Watched), _MODEL]
    connection.register("watch_rows", pa.Table.from_pylist(rows, pa.schema(columns)))
    return "FROM watch_rows"


def _config(connection: duckdb.DuckDBPyConnection, store: Store, runs: Sequence[str]) -> str:
    rows = [
        {"run": run, "key": key, "value": value if isinstance(value, str) else json.dumps(value)}
        for run in runs
        for key, value in flattened(store.config(run).table())
    ]
    schema = pa.schema([(name, pa.string()) for name in ("run", "key", "value")])
    connection.register("config_rows", pa.Table.from_pylist(rows, schema))
    return "FROM config_rows"


SOURCES: dict[ExportKind, ExportSource] = {
    "metrics": _table(_METRICS),
    "evals": _evals,
    "examples": _table(_EXAMPLES),
    "comparisons": _comparisons,
    "watch": _watch,
    "config": _config,
}


def flattened(value: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the leaves of nested mappings under dotted keys; a list is a leaf."""
    if not isinstance(value, dict) or not value:
        yield prefix, value
        return
    for key, inner in value.items():
        yield from flattened(inner, f"{prefix}.{key}" if prefix else str(key))


def _models(store: Store, runs: Sequence[str]) -> dict[str, str | None]:
    return {run: store.config(run).model_source or None for run in runs}


def _registered(
    connection: duckdb.DuckDBPyConnection, name: str, kind: type[Any], rows: list[dict[str, Any]]
) -> str:
    """Register `rows` of dataclass `kind` with their model as a table.

    An empty table keeps its columns.
    """
    schema = pa.schema([*_columns(kind), _MODEL])
    connection.register(f"{name}_rows", pa.Table.from_pylist(rows, schema))
    return f"FROM {name}_rows"


def _columns(kind: type[Any]) -> list[tuple[str, pa.DataType]]:
    """Return names and types of a dataclass's fields.

    A type outside `_ARROW` becomes text.
    """
    return [(field.name, _ARROW.get(str(field.type).split(" ")[0], pa.string())) for field in fields(kind)]
