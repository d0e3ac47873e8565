"""Charts of marked runs: a line for each run, in the run's colour.

There is a chart for each arm and metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mathrl_tui.core import chart, panels, text
from mathrl_tui.core.chart import Line, View
from mathrl_tui.core.marked_runs import MarkedRun, short_names
from mathrl_tui.core.palette import Look
from mathrl_tui.core.spans import Row

# The metrics to show, the most telling first.
_TELLING = (
    "reward/mean",
    "train/loss",
    "val/pass_at_1",
    "completions/mean_length",
    "kl/mean",
    "val/loss",
    "train/grad_norm",
)
# Cells of a chart's title, of a line's mark and values in the legend, and of a run's name.
_TITLE, _VALUE, _LEAST_NAME = 18, 10, 6
# Rows of a chart.
LOWEST = 9


def count(height: int) -> int:
    """Return how many charts fit above each other."""
    return max(height // LOWEST, 1)


def chosen(runs: Sequence[MarkedRun], most: int) -> list[str]:
    """Return the metrics to draw, at most `most`.

    Those that most runs have come first, then the telling ones, then those of arms that train last.
    """
    having = Counter(metric for run in runs for metric in run.metrics)
    arms = list(dict.fromkeys(arm for run in runs for arm in run.arms))

    def rank(metric: str) -> tuple[int, int, int]:
        arm, rest = panels.split(metric)
        return -having[metric], _TELLING.index(rest), -arms.index(arm)

    known = [
        metric for metric in having if panels.split(metric)[0] in arms and panels.split(metric)[1] in _TELLING
    ]
    return sorted(known, key=rank)[:most]


def draw(
    runs: Sequence[MarkedRun],
    metrics: Sequence[str],
    looks: Mapping[str, Look],
    width: int,
    height: int,
) -> list[Row]:
    """Draw the charts of `metrics` in `height` rows of `width` cells."""
    # Names, values and blanks of all lines share the title's row.
    name = max((width - _TITLE) // max(len(runs), 1) - _VALUE, _LEAST_NAME)
    short = short_names([run.run_id for run in runs])
    names = {run: text.run_name(label, name) for run, label in short.items()}
    rows: list[Row] = []
    for place, metric in enumerate(metrics):
        arm, rest = panels.split(metric)
        lines = [
            Line(names[run.run_id], looks[run.run_id], run.curves[metric])
            for run in runs
            if metric in run.curves
        ]
        # The last chart takes the rows that are left over.
        below = len(metrics) - place
        rows += chart.draw(
            f"{panels.title(rest)} · {arm}",
            lines,
            View(),
            width,
            (height - len(rows)) // below,
            percent=panels.is_rate(rest),
        )
    return rows
