"""Data of one home for the console: stored history and live tails.

One thread uses it. This module imports DuckDB and NumPy, so the console imports it after its first paint.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from mathrl_tui.core import alarms, differences
from mathrl_tui.core.alarm_watch import AlarmWatch, RunAlarm
from mathrl_tui.core.alarms import Alarm
from mathrl_tui.core.completions import WHILE_TRAINING
from mathrl_tui.core.curve import Curve
from mathrl_tui.core.marked_runs import MarkedRun, MarkedRuns
from mathrl_tui.core.other_seeds import OtherRunCurves, OtherRuns
from mathrl_tui.core.run import LOG_LINES, RunModel, RunSnapshot, Value
from mathrl_tui.core.run_curves import RunCurves
from mathrl_tui.core.run_list import RunList
from mathrl_tui.core.run_results import NO_RESULTS, ResultsReader, RunResults
from mathrl_tui.core.watch import Flag, flags
from mathrl_tui.core.zoom import CurveDetails, Window
from store import runs as run_states
from store.batches import JournalVersion
from store.comparison import Comparison, newest, run_comparisons
from store.errors import StoreError
from store.home import RunFolder
from store.live import LiveTail
from store.private import close_to_others, make_folder
from store.query import Store, UnknownRun
from store.records import LIVE_STATES, Example
from store.results import EvalSummary, RunSummary
from store.run_progress import ENDED, RunProgress, StepProgress
from store.score_files import InputError
from store.verdict import run_watch

# Shown to the user in one line while the last picture stays.
READING_ERRORS = (StoreError, UnknownRun, InputError, JournalVersion, duckdb.Error, OSError)
# Buckets of a curve's history: several for each dot column of any terminal.
BUCKETS = 2000
INGEST_SECONDS = 1.0
# Events that determine the picture; all of them are read.
_TELLING = ("state", "stage", "process", "phase")
# Of these events the newest LOG_LINES are enough.
_SAID = ("log", "alarm", "checkpoint", "command", "input")


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in the list: summary, progress, alarms and results.

    `at` is the current step, None unless the run is live. `fraction` is the part of the plan that is done, in
    [0, 1].
    """

    summary: RunSummary
    at: StepProgress | None
    fraction: float
    alarms: tuple[Alarm, ...] = ()
    results: RunResults = NO_RESULTS


class HomeData:
    """Reads one home's store and journals for the console.

    It is not thread-safe: the console calls it on the thread of `mathrl_tui.reader`.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = Store(home)
        self._shown = ""
        # The run on screen, and the live ones of the list.
        self._models: dict[str, tuple[RunModel, LiveTail]] = {}
        self._ingested = 0.0
        # The store has all journaled rows, as far as it knows.
        self._complete = False
        self._list = RunList(self.store, self._snapshot)
        self._results = ResultsReader(self.store)
        self._lines: list[RunLine] = []
        # They never change.
        self._settings: dict[str, tuple[tuple[str, str], ...]] = {}
        self._compared: dict[str, tuple[object, list[Comparison]]] = {}
        curves = RunCurves(self.curve)
        self._other_runs = OtherRunCurves(self.store, curves)
        self._marked_runs = MarkedRuns(self.store, curves, self._results.config)
        self._details = CurveDetails(self.curve)
        self._alarm_watch = AlarmWatch(self.store)

    @property
    def problem(self) -> str:
        """Return why the store could not ingest new records, in one line.

        Returns: "" if it could.
        """
        return self.store.problem

    def ingest(self) -> None:
        """Ingest new records, at most once a second.

        This also covers a run that lost its supervisor. If the store cannot ingest now, `problem` gives the
        reason.
        """
        if time.monotonic() - self._ingested >= INGEST_SECONDS:
            self._complete = self.store.ingest() == 0 and not self.store.problem
            self._ingested = time.monotonic()

    def runs(self) -> list[RunLine]:
        """Return all runs, newest first; without a change, the same list again."""
        if self._complete and self._results.complete and not self._list.changed():
            return self._lines
        self.ingest()
        summaries = self._list.read()
        results = self._results.of(summaries, ingested=self._complete)
        self._lines = [self._line(summary, results[summary.run]) for summary in reversed(summaries)]
        live = {line.summary.run for line in self._lines if line.summary.state in LIVE_STATES}
        self._models = {run: one for run, one in self._models.items() if run in live or run == self._shown}
        return self._lines

    def run_alarms(self) -> tuple[RunAlarm, ...]:
        """Return the alarms of all runs that were live since the first call."""
        return self._alarm_watch.poll(time.time())

    def newest_run(self) -> str:
        """Return the id of the newest run; "" without runs."""
        self.ingest()
        summaries = self.store.runs()
        return summaries[-1].run if summaries else ""

    def _line(self, summary: RunSummary, results: RunResults) -> RunLine:
        damage = tuple(Alarm(f"journal damaged: {words}", about="damage") for words in summary.damage)
        if summary.state not in LIVE_STATES:
            ended = sum(one.status in ENDED for one in summary.stages)
            return RunLine(summary, None, ended / max(len(summary.stages), 1), damage, results)
        shot = self._snapshot(summary.run)
        found = (*alarms.alarms(shot, time.time()), *damage)
        return RunLine(summary, shot.current, RunProgress(shot.board).fraction, found, results)

    def settings(self, runs: Iterable[str]) -> dict[str, tuple[tuple[str, str], ...]]:
        """Return the settings of each run."""
        for run in runs:
            if run not in self._settings:
                self._settings[run] = tuple(differences.settings(self._results.config(run)))
        return dict(self._settings)

    def run(
        self,
        run_id: str,
        metrics: Sequence[str] = (),
        timed: Collection[str] = (),
        windows: Mapping[str, Window] | None = None,
    ) -> RunSnapshot:
        """Return the current state of the run, with the curves of `metrics`.

        Those in `timed` have times. Those in `windows` have the detail of their visible part.

        Raises: UnknownRun if the store does not have the run.
        """
        alive = run_states.is_live(RunFolder(self.home, run_id))
        self._shown = run_id
        model = self._followed(run_id)
        missing = [metric for metric in metrics if not model.has_curve(metric, timed=metric in timed)]
        if missing:
            self.store.ingest()
        for metric in missing:
            model.set_curve(metric, self.curve(run_id, metric, metric in timed))
        shot = model.snapshot(alive)
        detailed = self._details.of(run_id, shot.curves, windows or {}, timed)
        return replace(shot, curves={**shot.curves, **detailed}) if detailed else shot

    def _snapshot(self, run_id: str) -> RunSnapshot:
        """Return the current state of a run in the list, without curves."""
        alive = run_states.is_live(RunFolder(self.home, run_id))
        return self._followed(run_id).snapshot(alive)

    def _followed(self, run_id: str) -> RunModel:
        """Return a run's model with all journaled records."""
        if run_id not in self._models:
            self._models[run_id] = self._opened(run_id)
        model, tail = self._models[run_id]
        model.apply(tail.poll())
        return model

    def _opened(self, run_id: str) -> tuple[RunModel, LiveTail]:
        """Return a run's model from history, and a tail that continues it.

        No record is missing between the two.
        """
        self.store.ingest()
        _, reached = self.store.events_to_here(run_id, limit=0)
        tail = LiveTail(RunFolder(self.home, run_id).journal, reached)
        model = RunModel(run_id, self.store.config(run_id))
        limits = (_TELLING, None), (("progress",), 500), (_SAID, LOG_LINES)
        model.apply(self.store.newest_events(run_id, *limits))
        status = self.store.status(run_id)
        model.set_latest({name: Value(-1, value, 0.0) for name, value in status.metrics.items()})
        return model, tail

    def other_runs(self, run_id: str, metrics: Sequence[str], timed: Collection[str] = ()) -> OtherRuns:
        """Return the other runs of the same profile with their curves.

        Those in `timed` have times.
        """
        self.ingest()
        return self._other_runs.of(run_id, metrics, timed)

    def marked_runs(
        self, run_ids: Sequence[str], metrics: Sequence[str], timed: Collection[str] = ()
    ) -> tuple[MarkedRun, ...]:
        """Return the runs of `run_ids` that exist, with their curves of `metrics`.

        Those in `timed` have times.
        """
        states = {line.summary.run: line.summary.state for line in self.runs()}
        found = {run: states[run] for run in run_ids if run in states}
        return self._marked_runs.of(found, metrics, timed)

    def curve(self, run_id: str, metric: str, timed: bool, window: Window | None = None) -> Curve:
        """Return a metric's reduced history, or that of a window.

        Times are included if `timed`.
        """
        start, end = (window.start, window.end) if window else (None, None)
        series = self.store.series(run_id, metric, BUCKETS, start, end, times=timed)
        return Curve.of_series(series)

    def evaluations(self, run_id: str) -> list[EvalSummary]:
        """Return the newest evaluation of each arm on each task.

        Arms are in the profile's order.
        """
        self.ingest()
        return newest(self.store.evaluations(run_id))

    def comparisons(self, run_id: str) -> list[Comparison]:
        """Return all pairs of the run's arms.

        They are recomputed only after new evaluation rows.
        """
        rows = self.evaluations(run_id)
        version = tuple((row.arm, row.task, row.step, row.samples) for row in rows)
        known = self._compared.get(run_id)
        if known is None or known[0] != version:
            self._compared[run_id] = (version, run_comparisons(self.store, run_id))
        return self._compared[run_id][1]

    def watch(self, run_id: str) -> list[Flag]:
        """Return the run's regression watch: each arm against the first.

        It covers the suite's tasks.
        """
        rows = self.comparisons(run_id)
        settings = self.store.config(run_id).evaluation
        return flags(run_watch(rows, settings), rows)

    def tasks(self, run_id: str) -> dict[str, list[str]]:
        """Return arm → tasks with completions.

        Evaluations come first, then samples from training.
        """
        found: dict[str, list[str]] = {}
        for row in self.evaluations(run_id):
            found.setdefault(row.arm, []).append(row.task)
        for arm in self.store.config(run_id).arms:
            for task in WHILE_TRAINING:
                if self.store.examples(run_id, arm, task, limit=1):
                    found.setdefault(arm, []).append(task)
        return found

    def completions(self, run_id: str, arm: str, task: str) -> list[Example]:
        """Return an arm's completions on a task.

        `train` and `validation` give those of all steps; another task gives its newest evaluation.
        """
        step = None
        if task not in WHILE_TRAINING:
            steps = [row.step for row in self.evaluations(run_id) if (row.arm, row.task) == (arm, task)]
            step = max(steps, default=None)
        return self.store.examples(run_id, arm, task, step, limit=None)

    def export(self, run_id: str) -> Path:
        """Export everything about a run as CSV, and its tables as Markdown.

        Returns: the directory.
        Raises: OSError or StoreError if a file cannot be written.
        """
        # The import loads Arrow, which nothing else here needs.
        from store.export import WHATS, export

        folder = self.home / "export" / run_id
        make_folder(folder)
        export(self.store, [run_id], WHATS, "csv", folder)
        export(self.store, [run_id], ("evals", "comparisons", "watch", "config"), "markdown", folder)
        for path in folder.iterdir():
            close_to_others(path)
        return folder
