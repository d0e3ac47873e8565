"""Runs with the same profile, whatever their seeds, and their curves."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mathrl_tui.core.curve import Curve
from mathrl_tui.core.run_curves import RunCurves
from store import runs as run_states
from store.home import RunFolder
from store.query import Store

# Maximum number of runs drawn together, the newest ones.
MOST = 12
# Seconds between searches for new runs.
AGAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class OtherRuns:
    """The other runs, and metric → curves of those that have it."""

    runs: tuple[str, ...]
    curves: Mapping[str, tuple[Curve, ...]]


class OtherRunCurves:
    """Finds the other runs of a profile, and reads their curves."""

    def __init__(self, store: Store, curves: RunCurves) -> None:
        self._store, self._curves = store, curves
        # By run; the profile of a run never changes.
        self._profiles: dict[str, Any] = {}
        self._found: dict[str, tuple[float, tuple[str, ...]]] = {}

    def of(self, run_id: str, metrics: Sequence[str], timed: Collection[str] = ()) -> OtherRuns:
        """Return the other runs and their curves of `metrics`.

        Those in `timed` have times.
        """
        runs = self._runs(run_id)
        live = {run: run_states.is_live(RunFolder(self._store.home, run)) for run in runs}
        curves = {}
        for metric in metrics:
            found = (self._curves.curve(run, metric, live=live[run], timed=metric in timed) for run in runs)
            curves[metric] = tuple(curve for curve in found if len(curve))
        return OtherRuns(runs, curves)

    def _runs(self, run_id: str) -> tuple[str, ...]:
        now = time.monotonic()
        looked, runs = self._found.get(run_id, (float("-inf"), ()))
        if now - looked > AGAIN_SECONDS:
            own = self._profile(run_id)
            others = (one.run for one in reversed(self._store.runs()) if one.run != run_id)
            runs = tuple(run for run in others if self._profile(run) == own)[: MOST - 1]
            self._found[run_id] = now, runs
        return runs

    def _profile(self, run_id: str) -> Any:
        if run_id not in self._profiles:
            self._profiles[run_id] = self._store.config(run_id).profile
        return self._profiles[run_id]
