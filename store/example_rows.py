"""Queries for the completions of an arm: examples, questions and scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import duckdb
import numpy as np

from store.records import Example
from store.results import Scores

_EXAMPLE = (
    "arm, step, task, ex_id, sample, correct, score, outcome, prompt, output, tokens, gold, answer, ts, "
    "finish, prompt_cut, window_tokens"
)


@dataclass(frozen=True, slots=True)
class ExampleFilter:
    """Completions of one arm. A field that is None does not filter."""

    run: str
    arm: str
    task: str | None = None
    step: int | None = None
    correct: bool | None = None
    ids: list[str] | None = None


def examples_in(
    connection: duckdb.DuckDBPyConnection, chosen: ExampleFilter, limit: int | None, offset: int
) -> list[Example]:
    """Return the chosen completions in arrival order.

    Args:
        limit: largest number of completions; None for all.
        offset: number of completions to skip.
    """
    found = connection.execute(
        f"""SELECT {_EXAMPLE} FROM store.eval_row WHERE run_id = $run AND arm = $arm
            AND ($task IS NULL OR task = $task) AND ($step IS NULL OR step = $step)
            AND ($correct IS NULL OR correct = $correct)
            AND ($ids IS NULL OR list_contains($ids::VARCHAR[], ex_id))
            ORDER BY rowid LIMIT $limit OFFSET $offset""",
        asdict(chosen) | {"limit": limit, "offset": offset},
    ).fetchall()
    return [Example(*row) for row in found]


def questions_in(
    connection: duckdb.DuckDBPyConnection, run_id: str, arm: str, step: int | None
) -> list[tuple[str, str, str]]:
    """Return task, question id and prompt of an arm's evaluations.

    Each question appears once. Questions asked in training are left out.
    """
    return connection.execute(
        """SELECT DISTINCT task, ex_id, prompt FROM store.eval_row WHERE run_id = $run AND arm = $arm
           AND ($step IS NULL OR step = $step) AND task NOT IN ('train', 'validation')
           ORDER BY ALL""",
        {"run": run_id, "arm": arm, "step": step},
    ).fetchall()


def scores_in(
    connection: duckdb.DuckDBPyConnection, run_id: str, arm: str, task: str, step: int | None
) -> Scores:
    """Return an arm's results on a task by completion.

    `step` None is the last evaluated step.

    Raises: LookupError without results.
    """
    names = {"run": run_id, "arm": arm, "task": task, "step": step}
    where = "FROM store.eval_row WHERE run_id = $run AND arm = $arm AND task = $task"
    (last,) = connection.execute(
        f"SELECT max(step) {where} AND ($step IS NULL OR step = $step)", names
    ).fetchall()[0]
    if last is None:
        at = "" if step is None else f"@{step}"
        raise LookupError(f"{run_id}/{arm}{at}: no results on task {task}")
    columns = connection.execute(
        f"SELECT ex_id, sample, correct, score, tokens {where} AND step = $step ORDER BY ex_id, sample",
        names | {"step": last},
    ).fetchnumpy()
    return Scores(
        arm=arm,
        step=last,
        task=task,
        ids=np.asarray(columns["ex_id"], object),
        sample=np.asarray(columns["sample"], np.int64),
        correct=np.asarray(columns["correct"], np.bool_),
        score=np.asarray(columns["score"], np.float64),
        tokens=np.asarray(columns["tokens"], np.int64),
    )
