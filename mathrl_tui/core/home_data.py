"""Data of one home for the console: stored history and live tails.

One thread uses it. This module imports DuckDB and NumPy, so the console imports it after its first paint.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import duckdb

from mathrl_tui.core import alarms
from mathrl_tui.core import stall as silence
from mathrl_tui.core.alarms import Alarm
from mathrl_tui.core.curve import Curve
from mathrl_tui.core.marked_runs import MarkedRun, MarkedRuns
from mathrl_tui.core.other_seeds import OtherRunCurves, OtherRuns
from mathrl_tui.core.run import LOG_LINES, RunModel, RunSnapshot, Value
from mathrl_tui.core.run_curves import RunCurves
from mathrl_tui.core.stall import Pulse
from mathrl_tui.core.watch import Flag, flags
from store import runs as run_states
from store.batches import JournalVersion
from store.comparison import Comparison, newest, run_comparisons
from store.errors import StoreError
from store.events import ProgressReport
from store.home import RunFolder
from store.live import LiveTail
from store.private import close_to_others, make_folder
from store.query import Store, UnknownRun
from store.records import LIVE_STATES, Example
from store.results import EvalSummary, RunStatus, RunSummary
from store.run_progress import ENDED, StepProgress, seconds_left
from store.score_files import InputError
from store.verdict import run_watch

# Shown to the user in one line while the last picture stays.
READING_ERRORS = (StoreError, UnknownRun, InputError, JournalVersion, duckdb.Error, OSError)
# Buckets of a curve's history: several for each dot column of any terminal.
BUCKETS = 2000
INGEST_SECONDS = 1.0
# Newest log events of a live run that the list of runs searches for warnings.
LOG_LOOK = 500
# Newest events of a live run that show the list of runs if it hangs.
SIGN_LOOK = 200
# Tasks with samples from the trainer.
WHILE_TRAINING = ("validation", "train")
# Events that determine the picture; all of them are read.
_TELLING = ("state", "stage", "process", "phase")
# Of these events the newest LOG_LINES are enough.
_SAID = ("log", "checkpoint", "command", "input")


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in the list: summary, progress and alarms.

    `at` is the current step, None unless the run is live. `fraction` is the part of the plan that is done, in
    [0, 1].
    """

    summary: RunSummary
    at: StepProgress | None
    fraction: float
    alarms: tuple[Alarm, ...] = ()


def alarms_of(store: Store, status: RunStatus, now: float) -> list[Alarm]:
    """Return a live run's alarms at `now` (Unix seconds).

    They come from the store and the journal's tail.
    """
    said = store.events(status.run, ("log",), limit=LOG_LOOK)
    events, reached = store.events_to_here(status.run, limit=SIGN_LOOK)
    pending = LiveTail(RunFolder(store.home, status.run).journal, reached).poll()
    pulse = reduce(silence.after, [*events, *pending], Pulse())
    return [
        *alarms.diverging(status.metrics),
        *alarms.silent(status.state, pulse, now),
        *alarms.warnings(said),
    ]


class HomeData:
    """Reads one home's store and journals for the console.

    It is not thread-safe: the console calls it on the thread of `mathrl_tui.reader`.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = Store(home)
        self._model: RunModel | None = None
        self._tail: LiveTail | None = None
        self._ingested = 0.0
        # (run, stage, arm) → when it was first seen, on the monotonic clock, and its progress then.
        self._paces: dict[tuple[str, str, str], tuple[float, float]] = {}
        self._compared: dict[str, tuple[object, list[Comparison]]] = {}
        curves = RunCurves(self.curve)
        self._other_runs = OtherRunCurves(self.store, curves)
        self._marked_runs = MarkedRuns(self.store, curves)

    @property
    def problem(self) -> str:
        """Return why the store could not ingest new records, in one line.

        Returns: "" if it could.
        """
        return self.store.problem

    def ingest(self) -> None:
        """Ingest new records, at most once a second.

        This also covers a run that lost its supervisor.
        """
        if time.monotonic() - self._ingested >= INGEST_SECONDS:
            self.store.ingest()
            self._ingested = time.monotonic()

    def runs(self) -> list[RunLine]:
        """Return all runs, newest first."""
        self.ingest()
        return [self._line(summary) for summary in reversed(self.store.runs())]

    def _line(self, summary: RunSummary) -> RunLine:
        ended = [one for one in summary.stages if one.status in ENDED]
        fraction = len(ended) / max(len(summary.stages), 1)
        damage = tuple(Alarm(f"journal damaged: {words}", about="damage") for words in summary.damage)
        if summary.state not in LIVE_STATES:
            return RunLine(summary, None, fraction, damage)
        status = self.store.status(summary.run)
        now, moment, total = time.time(), time.monotonic(), status.total_steps or 0
        report = ProgressReport(status.step or 0, total, status.unit, status.eta_seconds, status.part)
        if report.eta_seconds is None:
            key = (summary.run, status.stage, status.arm)
            first = self._paces.setdefault(key, (moment, report.reached))
            report = replace(report, eta_seconds=seconds_left(first, moment, report.reached, total))
        at = StepProgress(status.stage, status.arm, "started", report, now)
        within = (at.fraction or 0.0) / max(len(summary.stages), 1)
        return RunLine(
            summary, at, min(fraction + within, 1.0), (*alarms_of(self.store, status, now), *damage)
        )

    def run(self, run_id: str, metrics: Sequence[str] = (), timed: Collection[str] = ()) -> RunSnapshot:
        """Return the current state of the run, with the curves of `metrics`.

        Those in `timed` have times.

        Raises: UnknownRun if the store does not have the run.
        """
        alive = run_states.is_live(RunFolder(self.home, run_id))
        if self._model is None or self._tail is None or self._model.run_id != run_id:
            self._model, self._tail = self._opened(run_id)
        self._model.apply(self._tail.poll())
        missing = [metric for metric in metrics if not self._model.has_curve(metric, timed=metric in timed)]
        if missing:
            self.store.ingest()
        for metric in missing:
            self._model.set_curve(metric, self.curve(run_id, metric, metric in timed))
        return self._model.snapshot(alive)

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
        self.ingest()
        states = {summary.run: summary.state for summary in self.store.runs()}
        found = {run: states[run] for run in run_ids if run in states}
        return self._marked_runs.of(found, metrics, timed)

    def curve(self, run_id: str, metric: str, timed: bool) -> Curve:
        """Return a metric's reduced history; times are included if `timed`."""
        series = self.store.series(run_id, metric, BUCKETS, times=timed)
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

        They are from the newest evaluation, or from all training steps.
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
