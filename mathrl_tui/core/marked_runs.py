"""Marked runs with their curves, to be drawn together.

Runs may have different profiles, arms and metrics. Each has one look, on all screens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from mathrl_tui.core.curve import Curve
from mathrl_tui.core.run_curves import RunCurves
from store import runs as run_states
from store.home import RunFolder
from store.query import Store
from store.run_config import RunConfig

# Parts of a run's id.
_BETWEEN = "-"


@dataclass(frozen=True, slots=True)
class MarkedRun:
    """A run, its state, its arms in the profile's order, and its curves.

    `metrics` are the names of all its metrics; `curves` has those that were asked for and are not empty.
    """

    run_id: str
    state: str
    arms: tuple[str, ...]
    metrics: tuple[str, ...]
    curves: Mapping[str, Curve]


class MarkedRuns:
    """Reads the runs that are drawn together, with their curves.

    `config` returns the configuration of a run.
    """

    def __init__(self, store: Store, curves: RunCurves, config: Callable[[str], RunConfig]) -> None:
        self._store, self._curves, self._config = store, curves, config
        # Those of a run that has ended.
        self._metrics: dict[str, tuple[str, ...]] = {}

    def of(
        self, runs: Mapping[str, str], metrics: Sequence[str], timed: Collection[str] = ()
    ) -> tuple[MarkedRun, ...]:
        """Return the runs in the given order, with the curves of `metrics`.

        Args:
            runs: run → its state.
            metrics: names such as `sft/train/loss`.
            timed: those of `metrics` whose curves have times.
        """
        return tuple(self._marked(run, state, metrics, timed) for run, state in runs.items())

    def _marked(self, run: str, state: str, metrics: Sequence[str], timed: Collection[str]) -> MarkedRun:
        live = run_states.is_live(RunFolder(self._store.home, run))
        known = self._known(run, live)
        wanted = [metric for metric in metrics if metric in known]
        curves = {
            metric: self._curves.curve(run, metric, live=live, timed=metric in timed) for metric in wanted
        }
        found = {metric: curve for metric, curve in curves.items() if len(curve)}
        return MarkedRun(run, state, self._config(run).arms, known, found)

    def _known(self, run: str, live: bool) -> tuple[str, ...]:
        if live or run not in self._metrics:
            self._metrics[run] = tuple(self._store.metrics(run))
        return self._metrics[run]


def short_names(runs: Sequence[str]) -> dict[str, str]:
    """Return the parts of each run's id that distinguish it from the others.

    Parts that all ids start or end with are left out: `demo-s0-x`, `demo-s1-x` become `s0`, `s1`.
    """
    names = list(dict.fromkeys(runs))
    split = [name.split(_BETWEEN) for name in names]
    if len(names) < 2:
        return {name: name for name in names}
    shortest = min(map(len, split))
    front = next((n for n in range(shortest) if len({parts[n] for parts in split}) > 1), shortest - 1)
    room = shortest - 1 - front
    back = next((n for n in range(room) if len({parts[-1 - n] for parts in split}) > 1), room)
    return {
        name: _BETWEEN.join(parts[front : len(parts) - back])
        for name, parts in zip(names, split, strict=True)
    }
