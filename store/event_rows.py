"""Queries for the events and last metrics of runs.

They serve summaries and status.
Each query selects only the events that change the result of the fold in store/run_progress.py: a run may have
millions of others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import duckdb

from store.records import Event

EVENT = "kind, message, stage, arm, step, payload, ts"


def state_events(connection: duckdb.DuckDBPyConnection) -> dict[str, list[Event]]:
    """Return the state and stage events of every run, in order of arrival."""
    events: dict[str, list[Event]] = {}
    for run_id, *row in connection.execute(
        f"SELECT run_id, {EVENT} FROM store.run_event WHERE kind IN ('state', 'stage') ORDER BY rowid"
    ).fetchall():
        events.setdefault(run_id, []).append(event_of(row))
    return events


def last_times(connection: duckdb.DuckDBPyConnection, run_id: str | None = None) -> dict[str, float]:
    """Return the time of the newest event of each run, or of `run_id`.

    Times are Unix seconds.
    """
    return dict(
        connection.execute(
            "SELECT run_id, max(ts) FROM store.run_event WHERE $run IS NULL OR run_id = $run GROUP BY run_id",
            {"run": run_id},
        ).fetchall()
    )


def last_events(
    connection: duckdb.DuckDBPyConnection, run_id: str, kinds: list[str] | None, limit: int | None
) -> list[Event]:
    """Return the last `limit` events of a run, in order of arrival.

    Only events of `kinds` are returned, if `kinds` is given.
    """
    found = connection.execute(
        f"SELECT {EVENT} FROM store.run_event WHERE run_id = $run "
        "AND ($kinds IS NULL OR list_contains($kinds::VARCHAR[], kind)) ORDER BY rowid DESC LIMIT $limit",
        {"run": run_id, "kinds": kinds, "limit": limit},
    ).fetchall()
    return [event_of(row) for row in reversed(found)]


def status_events(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[Event]:
    """Return the events that a run's status needs, in order of arrival.

    These are state, stage and process events, and the last progress of each stage and arm.
    """
    found = connection.execute(
        f"""SELECT {EVENT} FROM store.run_event WHERE run_id = $run AND (kind IN ('state', 'stage', 'process')
            OR rowid IN (SELECT max(rowid) FROM store.run_event WHERE run_id = $run AND kind = 'progress'
                         GROUP BY stage, arm)) ORDER BY rowid""",
        {"run": run_id},
    ).fetchall()
    return [event_of(row) for row in found]


def last_values(connection: duckdb.DuckDBPyConnection, run_id: str) -> dict[str, float]:
    """Return each metric's value at its highest step."""
    return dict(
        connection.execute(
            "SELECT metric, arg_max(value, step) FROM store.scalar WHERE run_id = ? GROUP BY metric ORDER BY metric",
            [run_id],
        ).fetchall()
    )


def event_of(row: Sequence[Any]) -> Event:
    """Return the event of a row with the columns `EVENT`."""
    kind, message, stage, arm, step, payload, ts = row
    return Event(kind, message, stage, arm, step, json.loads(payload), ts)
