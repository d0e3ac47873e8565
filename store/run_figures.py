"""Figures of many runs: last reward, shape of the loss, differences.

Each function needs a constant number of queries, whatever the number of runs. A run's loss is that of the arm that
trained last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np

from store.statistics.resampling import Floats

_LOSS, _REWARD = "/train/loss", "/reward/mean"

_HEADS = f"""
    SELECT run_id, metric, min(step), max(step), arg_max(value, step), max(ts) FROM store.scalar
    WHERE ($run IS NULL OR run_id = $run) AND (suffix(metric, '{_LOSS}') OR suffix(metric, '{_REWARD}'))
    GROUP BY run_id, metric
"""
_PARTS = """
    SELECT scalar.run_id, (step - low) * $parts // (high - low + 1), avg(value) FILTER (isfinite(value))
    FROM store.scalar AS scalar
    JOIN (SELECT unnest($runs::VARCHAR[]) AS run_id, unnest($metrics::VARCHAR[]) AS metric,
                 unnest($lows::BIGINT[]) AS low, unnest($highs::BIGINT[]) AS high) USING (run_id, metric)
    WHERE step >= low AND step <= high GROUP BY ALL
"""
_SCORES = """
    WITH question AS (
        SELECT arm, step, ex_id, avg(score) AS score FROM store.eval_row
        WHERE run_id = $run AND task = $task GROUP BY arm, step, ex_id
    ), newest AS (SELECT arm, max(step) AS step FROM question GROUP BY arm)
    SELECT arm, list(ex_id ORDER BY ex_id), list(score ORDER BY ex_id)
    FROM question JOIN newest USING (arm, step) GROUP BY arm
"""


@dataclass(frozen=True, slots=True)
class RunFigures:
    """Last values of a run; None if it has none.

    `losses` are the means of equal parts of the loss's steps, (parts,), with None for a part without a finite value.
    """

    reward: float | None = None
    loss: float | None = None
    losses: tuple[float | None, ...] = ()


NO_FIGURES = RunFigures()


def figures_in(
    connection: duckdb.DuckDBPyConnection, parts: int, run_id: str | None = None
) -> dict[str, RunFigures]:
    """Return the figures of `run_id`, or of all runs if None.

    Runs without a loss or a reward are left out. `parts` is the length of `losses`.
    """
    losses: dict[str, tuple[float, str, int, int, float]] = {}
    rewards: dict[str, tuple[float, float]] = {}
    for run, metric, low, high, last, ts in connection.execute(_HEADS, {"run": run_id}).fetchall():
        if metric.endswith(_REWARD):
            rewards[run] = max(rewards.get(run, (float("-inf"), 0.0)), (ts, last))
        elif run not in losses or ts >= losses[run][0]:
            losses[run] = (ts, metric, low, high, last)
    shapes = _shapes(connection, parts, losses)
    return {
        run: RunFigures(
            reward=rewards[run][1] if run in rewards else None,
            loss=losses[run][4] if run in losses else None,
            losses=shapes.get(run, ()),
        )
        for run in {**losses, **rewards}
    }


def _shapes(
    connection: duckdb.DuckDBPyConnection,
    parts: int,
    losses: Mapping[str, tuple[float, str, int, int, float]],
) -> dict[str, tuple[float | None, ...]]:
    if not losses:
        return {}
    _, metrics, lows, highs, _ = zip(*losses.values(), strict=True)
    names = {"runs": list(losses), "metrics": metrics, "lows": lows, "highs": highs, "parts": parts}
    found: dict[str, list[float | None]] = {}
    for run, part, mean in connection.execute(_PARTS, names).fetchall():
        found.setdefault(run, [None] * parts)[part] = mean
    return {run: tuple(means) for run, means in found.items()}


def paired_differences(
    connection: duckdb.DuckDBPyConnection, run_id: str, task: str, base: str, arms: Sequence[str]
) -> dict[str, Floats]:
    """Return each arm's differences to `base`, in the order of question ids.

    Scores are means over a question's samples, at each arm's newest step. Arms that answered other questions are
    left out.
    """
    rows = connection.execute(_SCORES, {"run": run_id, "task": task}).fetchall()
    found = {arm: (ids, np.array(scores)) for arm, ids, scores in rows}
    if base not in found:
        return {}
    asked, scores = found[base]
    return {arm: found[arm][1] - scores for arm in arms if arm in found and found[arm][0] == asked}
