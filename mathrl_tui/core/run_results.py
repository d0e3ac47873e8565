"""Results of each run for the list: rates, difference to the base, loss.

Results of an ended run are read once; those of a live run every LIVE_SECONDS. Differences are intervals by resampling,
which take a while, so each call computes a few of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from store.comparison import newest
from store.query import Store
from store.records import LIVE_STATES
from store.results import EvalSummary, RunSummary
from store.run_config import RunConfig
from store.run_figures import NO_FIGURES, RunFigures
from store.statistics.interval import Interval
from store.statistics.paired import paired_interval

LIVE_SECONDS = 5.0
# Parts of a loss's shape.
PARTS = 24
# From this number of runs on, one query for all runs is faster.
MANY = 4
# Seconds for differences in one call; at least one is computed.
BUDGET = 0.04


@dataclass(frozen=True, slots=True)
class RunResults:
    """Results of a run.

    `rates` has arm → newest result on the run's first task with an accuracy, in the profile's order.
    `gains` has arm → paired difference to the first arm; None while it is not computed.
    `tasks` has task → arm → rate, for all tasks with an accuracy.
    """

    task: str = ""
    rates: Mapping[str, EvalSummary] = field(default_factory=dict)
    gains: Mapping[str, Interval] | None = None
    tasks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    figures: RunFigures = NO_FIGURES

    @property
    def best(self) -> EvalSummary | None:
        """Return the best result of the arms."""
        return max(self.rates.values(), key=lambda row: row.rate, default=None)

    @property
    def gain(self) -> tuple[str, Interval] | None:
        """Return the largest difference to the first arm, with its arm."""
        found = (self.gains or {}).items()
        return max(found, key=lambda pair: pair[1].estimate, default=None)


NO_RESULTS = RunResults()


@dataclass(frozen=True, slots=True)
class _Read:
    """Results, what they depend on, and when they were read.

    `at` is in monotonic seconds. A complete result does not change while the summary stays."""

    results: RunResults
    summary: RunSummary
    at: float
    complete: bool


class ResultsReader:
    """Cache of the results of one home's runs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, _Read] = {}
        # The configuration of a run never changes.
        self._configs: dict[str, RunConfig] = {}
        # The last differences of a run and the results they belong to.
        self._gains: dict[str, tuple[object, Mapping[str, Interval]]] = {}

    @property
    def complete(self) -> bool:
        """Return True if all differences are computed."""
        return all(read.results.gains is not None for read in self._read.values())

    def config(self, run_id: str) -> RunConfig:
        """Return a run's configuration."""
        if run_id not in self._configs:
            self._configs[run_id] = self._store.config(run_id)
        return self._configs[run_id]

    def of(self, summaries: Sequence[RunSummary], *, ingested: bool) -> dict[str, RunResults]:
        """Return the results of each run; unchanged ones are the same objects.

        `ingested` means that the store has all journaled rows of the ended runs.
        """
        now = time.monotonic()
        stale = [summary for summary in summaries if self._is_stale(summary, now)]
        if stale:
            self._refresh(stale, now, ingested)
        self._compute_gains(summaries)
        known = {summary.run for summary in summaries}
        self._read = {run: read for run, read in self._read.items() if run in known}
        return {run: read.results for run, read in self._read.items()}

    def _is_stale(self, summary: RunSummary, now: float) -> bool:
        read = self._read.get(summary.run)
        if read is None:
            return True
        if summary.state in LIVE_STATES or not read.complete:
            return now - read.at >= LIVE_SECONDS
        return summary != read.summary

    def _refresh(self, stale: Sequence[RunSummary], now: float, ingested: bool) -> None:
        runs = [summary.run for summary in stale]
        evaluations: dict[str, list[EvalSummary]] = {}
        figures: dict[str, RunFigures] = {}
        for run in [None] if len(runs) >= MANY else runs:
            for row in newest(self._store.evaluations(run)):
                evaluations.setdefault(row.run, []).append(row)
            figures |= self._store.figures(PARTS, run)
        for summary in stale:
            run = summary.run
            results = self._results(run, evaluations.get(run, ()), figures.get(run, NO_FIGURES))
            before = self._read.get(run)
            if before is not None and before.results == results:
                results = before.results
            self._read[run] = _Read(results, summary, now, ingested and summary.state not in LIVE_STATES)

    def _results(self, run: str, rows: Iterable[EvalSummary], figures: RunFigures) -> RunResults:
        accuracies = [row for row in rows if row.measure == "accuracy"]
        arms = self.config(run).arms
        tasks: dict[str, dict[str, float]] = {}
        for row in accuracies:
            tasks.setdefault(row.task, {})[row.arm] = row.rate
        task = next(iter(tasks), "")
        found = {row.arm: row for row in accuracies if row.task == task}
        rates = {arm: found[arm] for arm in arms if arm in found}
        known = self._gains.get(run)
        gains = known[1] if known is not None and known[0] == rates else None if len(rates) > 1 else {}
        return RunResults(task, rates, gains, tasks, figures)

    def _compute_gains(self, summaries: Sequence[RunSummary]) -> None:
        """Compute missing differences, of the newest runs first."""
        begun = time.monotonic()
        for summary in reversed(summaries):
            read = self._read[summary.run]
            if read.results.gains is None:
                gains = self._computed(summary.run, read.results)
                self._gains[summary.run] = read.results.rates, gains
                self._read[summary.run] = replace(read, results=replace(read.results, gains=gains))
                if time.monotonic() - begun > BUDGET:
                    return

    def _computed(self, run: str, results: RunResults) -> dict[str, Interval]:
        base, *arms = results.rates
        config = self.config(run)
        settings = config.evaluation
        found = self._store.paired_differences(run, results.task, base, arms)
        return {
            arm: paired_interval(differences, settings["confidence"], settings["resamples"], config.seed)
            for arm, differences in found.items()
            if np.isfinite(differences).all()
        }
