"""Summaries of all runs, read again only for what may have changed.

runs and journals on disk ─▶ signature ─▶ changed? ─▶ Store.runs()
live runs ─▶ fold of the journal's tail ─▶ replaces state and stages of the summary

A list of ended runs costs a few stat calls a run. `Store.runs` reads the events of every run: 75 ms of CPU for 200.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from mathrl_tui.core.run import RunSnapshot
from store.home import REMOVED, RunFolder
from store.journal import segment_path, segments
from store.naming import UnknownRun
from store.query import Store
from store.records import LIVE_STATES
from store.results import RunSummary, StageStatus

# (inode, size, time of the last change in ns) of a path; zeros if it is missing.
_Trace = tuple[int, int, int]


class RunList:
    """Reader of the summaries of one home, oldest first.

    `snapshot` returns the current state of a live run.
    """

    def __init__(self, store: Store, snapshot: Callable[[str], RunSnapshot]) -> None:
        self._store, self._snapshot = store, snapshot
        self._signature: tuple[_Trace, ...] = ()
        self._known: list[RunSummary] = []
        # Journal directory → its trace, and its newest segment.
        self._newest: dict[Path, tuple[_Trace, Path]] = {}

    def changed(self) -> bool:
        """Return True if a run may have changed since the last `read`."""
        return bool(self._live()) or self._trace() != self._signature

    def read(self) -> list[RunSummary]:
        """Return the summaries; unchanged ones are the same objects."""
        signature = self._trace()
        snapshots = self._snapshots()
        if snapshots.keys() != set(self._live()) or signature != self._signature:
            before = {summary.run: summary for summary in self._known}
            fresh = self._store.runs()
            self._known = [old if (old := before.get(one.run)) == one else one for one in fresh]
            # The runs may be others than before.
            self._signature = self._trace()
            snapshots = self._snapshots()
        return [
            _current(summary, snapshots[summary.run]) if summary.run in snapshots else summary
            for summary in self._known
        ]

    def _live(self) -> list[str]:
        return [summary.run for summary in self._known if summary.state in LIVE_STATES]

    def _snapshots(self) -> dict[str, RunSnapshot]:
        """Return the states of the runs that are still live."""
        found = {}
        for run in self._live():
            try:
                shot = self._snapshot(run)
            except UnknownRun:
                continue
            if shot.state in LIVE_STATES:
                found[run] = shot
        return found

    def _trace(self) -> tuple[_Trace, ...]:
        """Return what changes on disk when a run starts, ends, or is removed."""
        home = self._store.home
        live = set(self._live())
        ended = [summary.run for summary in self._known if summary.run not in live]
        return tuple(
            map(_trace, [home / "runs", home / "journal", home / REMOVED, *self._paths(home, ended)])
        )

    def _paths(self, home: Path, runs: Iterable[str]) -> Iterable[Path]:
        for run in runs:
            folder = RunFolder(home, run)
            # A supervisor creates its socket in the run's directory.
            yield folder.path
            yield self._newest_segment(folder.journal)

    def _newest_segment(self, journal: Path) -> Path:
        trace = _trace(journal)
        known = self._newest.get(journal)
        if known is None or known[0] != trace:
            newest = segment_path(journal, max(segments(journal), default=0))
            known = self._newest[journal] = trace, newest
        return known[1]


def _trace(path: Path) -> _Trace:
    try:
        status = os.stat(path)  # noqa: PTH116  # half the time of Path.stat, for hundreds of paths a second
    except OSError:
        return (0, 0, 0)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _current(summary: RunSummary, shot: RunSnapshot) -> RunSummary:
    """Return the summary of a live run with the state of its snapshot."""
    stages = [StageStatus(step.stage, step.arm, step.status) for step in shot.board]
    return replace(summary, state=shot.state, reason=shot.reason, stages=stages)
