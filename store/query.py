"""Queries on the store: runs, series, evaluations, examples, SQL.

History comes from DuckDB in short read-only accesses. Records that a run journaled after the last ingest are
added if an outdated answer would be wrong: a run's state. All queries work on a home without a store.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from store import runs as run_states
from store.applied import offsets_in
from store.damage import Damage, damages_in, settled_in
from store.database import Database
from store.errors import StoreDamaged, StoreError
from store.evaluations import evaluations_in
from store.event_rows import (
    EVENT,
    event_of,
    last_events,
    last_times,
    last_values,
    state_events,
    status_events,
)
from store.example_rows import ExampleFilter, examples_in, questions_in, scores_in
from store.healing import healing
from store.home import RunFolder, removed, removing, run_ids
from store.ingest import Ingester
from store.journal import START, Position, has_more, scan
from store.naming import UnknownRun, journaled, match
from store.records import Event, Example, Record, RunRow, Scalar, from_groups
from store.results import EvalSummary, RunStatus, RunSummary, Scores, Series
from store.run_config import RunConfig
from store.run_figures import RunFigures, figures_in, paired_differences
from store.series import reduced
from store.sql import Limits, answer

__all__ = ["Store", "UnknownRun"]

log = logging.getLogger(__name__)

# Seconds that a one-off command waits for other processes.
CATCH_UP_SECONDS = 5.0


class Store:
    """Runs of one home.

    The store file is created when there are records to ingest. The object may be used from several threads.
    """

    def __init__(self, home: Path) -> None:
        self.home = Path(home)
        self.database = Database(self.home)
        self._ingester = Ingester(self.database)

    def ingest(self) -> int:
        """Apply new journal records and return the number of rows.

        The call is cheap and bounded, so it can be made every second.

        Returns: 0, with `problem` set, if it must wait (another program holds the file, or the disk is full).
        """
        return self._ingester.tick()

    def catch_up(self) -> int:
        """Like `ingest`, but wait some seconds for others, and warn.

        It is for a command that needs all available rows.
        """
        rows = self._ingester.apply(CATCH_UP_SECONDS)
        if self._ingester.problem and not self._is_held():
            log.warning("the newest rows are left out: %s", self._ingester.problem)
        return rows

    @healing
    def damages(self, run_id: str | None = None) -> dict[str, list[Damage]]:
        """Return the damaged journal places by run, if rows may be missing."""
        with self.database.reading() as connection:
            return damages_in(connection, run_id)

    def heal(self, error: StoreDamaged) -> None:
        """Rebuild the damaged store from the journals.

        Does nothing if another process has done so.
        """
        self._ingester.heal(error)

    def take_repairs(self) -> list[str]:
        """Return the lines about repairs since the last call."""
        lines, self._ingester.repairs = self._ingester.repairs, []
        return lines

    @property
    def problem(self) -> str:
        """Return why answers are not current, in one line; empty if they are."""
        return self.database.behind or self._ingester.problem

    def _is_held(self) -> bool:
        """Return True if a copy must answer.

        The first look at the copy has then logged its age.
        """
        try:
            with self.database.reading():
                return bool(self.database.behind)
        except StoreError:
            return False

    @healing
    def runs(self) -> list[RunSummary]:
        """Return all runs, oldest first, with their current states."""
        # Before their rows are read: later they are gone from both.
        gone = {*removing(self.home), *removed(self.home)}
        with self.database.reading() as connection:
            rows = _run_rows(connection)
            events = state_events(connection)
            newest = last_times(connection)
            reached, _ = offsets_in(connection)
            damages = damages_in(connection)
        summaries = []
        for run_id in dict.fromkeys([*rows, *journaled(self.home), *run_ids(self.home)]):
            live, pending, fresh = self._since(run_id, reached.get(run_id, START))
            row = _registration(pending) or rows.get(run_id) or run_states.registered(self._folder(run_id))
            if row is not None and run_id not in gone:
                progress = run_states.progress_of(row, [*events.get(run_id, []), *_events(pending)])
                summary = run_states.summarise(run_id, row, progress, live, newest.get(run_id, 0.0))
                summaries.append(_with_damage(summary, [*damages.get(run_id, []), *fresh]))
        return sorted(summaries, key=lambda summary: summary.started or 0.0)

    def resolve(self, text: str) -> str:
        """Return the id of the run that `text` identifies (`store.naming`).

        Raises: UnknownRun if none or several match.
        """
        return match(text, {summary.run: summary.name for summary in self.runs()}, self.home)

    @healing
    def status(self, run_id: str) -> RunStatus:
        """Return one run in full.

        Raises: UnknownRun if the store does not have it.
        """
        with self.database.reading() as connection:
            row = _run_rows(connection, run_id).get(run_id)
            events = status_events(connection, run_id)
            newest = last_times(connection, run_id).get(run_id, 0.0)
            metrics = last_values(connection, run_id)
            reached, _ = offsets_in(connection, run_id)
            damages = damages_in(connection, run_id)
        live, pending, fresh = self._since(run_id, reached.get(run_id, START))
        row = _registration(pending) or row or run_states.registered(self._folder(run_id))
        if row is None:
            raise UnknownRun(f"{run_id}: no such run in {self.home}; `mathrl-tui runs` lists them")
        progress = run_states.progress_of(row, [*events, *_events(pending)])
        metrics |= {record.metric: record.value for record in pending if isinstance(record, Scalar)}
        summary = run_states.summarise(run_id, row, progress, live, newest)
        summary = _with_damage(summary, [*damages.get(run_id, []), *fresh])
        return run_states.detail(summary, progress, metrics, self._folder(run_id))

    @healing
    def config(self, run_id: str) -> RunConfig:
        """Return a run's frozen configuration.

        It holds profile, seed, plan, versions and hardware.

        Raises: UnknownRun if the home does not have the run.
        """
        with self.database.reading() as connection:
            row = _run_rows(connection, run_id).get(run_id) or run_states.registered(self._folder(run_id))
        if row is None:
            raise UnknownRun(f"{run_id}: no such run in {self.home}; `mathrl-tui runs` lists them")
        return RunConfig.of(row.config)

    @healing
    def events(
        self, run_id: str, kinds: Iterable[str] | None = None, limit: int | None = None
    ) -> list[Event]:
        """Return a run's events in arrival order.

        Args:
            kinds: kinds to include; None for all.
            limit: number of newest events to include; None for all.
        """
        wanted = None if kinds is None else list(kinds)
        with self.database.reading() as connection:
            return last_events(connection, run_id, wanted, limit)

    @healing
    def newest_events(self, run_id: str, *limits: tuple[Sequence[str], int | None]) -> list[Event]:
        """Return a run's newest events, in arrival order.

        Each of `limits` is (kinds, limit): the last `limit` events of these kinds are included. Event times
        do not give the order, because a clock may be set back.
        """
        parts = " UNION ALL ".join(
            f"""(SELECT rowid AS place, {EVENT} FROM store.run_event WHERE run_id = $run
                AND list_contains($kinds{n}::VARCHAR[], kind) ORDER BY rowid DESC LIMIT $limit{n})"""
            for n in range(len(limits))
        )
        names: dict[str, Any] = {"run": run_id}
        for n, (kinds, limit) in enumerate(limits):
            names |= {f"kinds{n}": list(kinds), f"limit{n}": limit}
        with self.database.reading() as connection:
            found = connection.execute(f"SELECT {EVENT} FROM ({parts}) ORDER BY place", names).fetchall()
        return [event_of(row) for row in found]

    @healing
    def events_to_here(self, run_id: str, limit: int | None = None) -> tuple[list[Event], Position]:
        """Return the last `limit` stored events, and the journal position after."""
        with self.database.reading() as connection:
            reached, _ = offsets_in(connection, run_id)
            return last_events(connection, run_id, None, limit), reached.get(run_id, START)

    @healing
    def metrics(self, run_id: str) -> list[str]:
        """Return the names of a run's metrics, sorted."""
        with self.database.reading() as connection:
            found = connection.execute("SELECT DISTINCT metric FROM store.scalar WHERE run_id = ?", [run_id])
            return sorted(metric for (metric,) in found.fetchall())

    @healing
    def series(
        self,
        run_id: str,
        metric: str,
        buckets: int = 400,
        start: int | None = None,
        end: int | None = None,
        *,
        times: bool = False,
    ) -> Series:
        """Return a metric from `start` to `end`, in at most `buckets` buckets.

        Both steps are included. Without `times`, `ts` is NaN: a chart over steps does not need times, which
        are slow to read.
        """
        with self.database.reading() as connection:
            return reduced(connection, run_id, metric, buckets, start, end, times=times)

    @healing
    def evaluations(self, run_id: str | None = None) -> list[EvalSummary]:
        """Return results by run, arm, step and task, in the order of the arms.

        Samples from training are left out.
        """
        with self.database.reading() as connection:
            return evaluations_in(connection, run_id)

    @healing
    def figures(self, parts: int, run_id: str | None = None) -> dict[str, RunFigures]:
        """Return the last reward and the loss of a run, or of all runs if None.

        `parts` is the number of means that show the loss's shape.
        """
        with self.database.reading() as connection:
            return figures_in(connection, parts, run_id)

    @healing
    def paired_differences(
        self, run_id: str, task: str, base: str, arms: Sequence[str]
    ) -> dict[str, NDArray[np.float64]]:
        """Return the differences of `arms` to `base` by question."""
        with self.database.reading() as connection:
            return paired_differences(connection, run_id, task, base, arms)

    @healing
    def examples(
        self,
        run_id: str,
        arm: str,
        task: str | None = None,
        step: int | None = None,
        *,
        correct: bool | None = None,
        ids: Sequence[str] | None = None,
        limit: int | None = 100,
        offset: int = 0,
    ) -> list[Example]:
        """Return an arm's completions in arrival order.

        The value None does not filter.
        """
        with self.database.reading() as connection:
            return examples_in(
                connection,
                ExampleFilter(run_id, arm, task, step, correct, None if ids is None else list(ids)),
                limit,
                offset,
            )

    @healing
    def questions(self, run_id: str, arm: str, step: int | None = None) -> list[tuple[str, str, str]]:
        """Return task, question id and prompt of an arm's evaluations.

        Each question appears once. Questions asked in training are left out.
        """
        with self.database.reading() as connection:
            return questions_in(connection, run_id, arm, step)

    @healing
    def scores(self, run_id: str, arm: str, task: str, step: int | None = None) -> Scores:
        """Return an arm's results on a task by completion.

        `step` None is the last evaluated step.

        Raises: LookupError without results.
        """
        with self.database.reading() as connection:
            return scores_in(connection, run_id, arm, task, step)

    @healing
    def sql(self, query: str, limits: Limits | None = None) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Return columns and rows of `query` on a private copy.

        Raises: as `store.sql.answer`.
        """
        self.catch_up()
        return answer(self.database, query, limits or Limits())

    def _folder(self, run_id: str) -> RunFolder:
        return RunFolder(self.home, run_id)

    def _since(self, run_id: str, position: Position) -> tuple[bool, list[Record], list[Damage]]:
        """Return what a run journaled after `position`.

        The lock is checked first. If its supervisor has ended by then, the journal is complete.

        Returns: (True if the run is live, records, damaged places).
        """
        folder = self._folder(run_id)
        live = run_states.is_live(folder)
        if not has_more(folder.journal, position):
            return live, [], []
        portion = scan(folder.journal, position)
        records = from_groups(portion.groups)
        settled = settled_in(records)
        return live, records, [damage for damage in portion.damages if damage.place not in settled]


def _run_rows(connection: duckdb.DuckDBPyConnection, run_id: str | None = None) -> dict[str, RunRow]:
    """Return registrations by run id.

    If a resume registered a run again, the result is the last registration with the first one's time.
    """
    found = connection.execute(
        "SELECT run_id, last(name ORDER BY rowid), last(profile ORDER BY rowid), last(seed ORDER BY rowid), "
        "last(config ORDER BY rowid), min(ts) FROM store.run WHERE $run IS NULL OR run_id = $run GROUP BY run_id",
        {"run": run_id},
    ).fetchall()
    return {
        run: RunRow(name, profile, seed, json.loads(config), ts)
        for run, name, profile, seed, config, ts in found
    }


def _with_damage(summary: RunSummary, damages: list[Damage]) -> RunSummary:
    return replace(summary, damage=[damage.words() for damage in damages]) if damages else summary


def _events(records: Iterable[Record]) -> list[Event]:
    return [record for record in records if isinstance(record, Event)]


def _registration(records: Sequence[Record]) -> RunRow | None:
    return next((record for record in reversed(records) if isinstance(record, RunRow)), None)
