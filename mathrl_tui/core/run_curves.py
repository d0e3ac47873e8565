"""Cache of the curves of several runs.

Curves of ended runs are read once, those of live runs every AGAIN_SECONDS.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mathrl_tui.core.curve import Curve

# Seconds between reads of a live run's curves.
AGAIN_SECONDS = 5.0

# (run, metric, with times) → its history.
Reduced = Callable[[str, str, bool], Curve]


@dataclass(frozen=True, slots=True)
class _Look:
    """A curve, the time `at` which it was read, and if the run was live.

    The time is in monotonic seconds.
    """

    curve: Curve
    live: bool
    at: float


class RunCurves:
    """Cache of the curves of several runs.

    `reduced` reads a curve from the store, as (run id, metric, timed) → Curve.
    """

    def __init__(self, reduced: Reduced) -> None:
        self._reduced = reduced
        self._looks: dict[tuple[str, str], _Look] = {}

    def curve(self, run_id: str, metric: str, *, live: bool, timed: bool) -> Curve:
        """Return the history of a metric; with times if `timed`.

        The curve of a `live` run is read again after AGAIN_SECONDS.
        """
        known = self._looks.get((run_id, metric))
        now = time.monotonic()
        stale = known is not None and (live or known.live) and now - known.at > AGAIN_SECONDS
        if known is None or stale or (timed and not known.curve.is_timed):
            known = self._looks[run_id, metric] = _Look(self._reduced(run_id, metric, timed), live, now)
        return known.curve
