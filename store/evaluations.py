"""How every arm did on every task, out of the evaluation rows: rates, perplexities, and several samples a question."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import duckdb

from store.results import EvalSummary
from store.statistics.interval import Interval
from store.statistics.perplexity import perplexity_interval
from store.statistics.rates import wilson_of_scores

_TASKS = """
    FROM store.eval_row
    WHERE task NOT IN ('train', 'validation') AND ($run IS NULL OR run_id = $run)
"""
_EVALUATIONS = f"""
    WITH question AS (
        SELECT run_id, arm, step, task, ex_id, count(*) AS samples, sum(correct::INT) AS correct, avg(score) AS score,
               max(correct::INT) AS any_correct, sum(tokens) AS tokens,
               sum((outcome = 'truncated')::INT) AS truncated, sum((outcome = 'no_answer')::INT) AS no_answer,
               bool_or(outcome = 'loglikelihood') AS likelihood, min(rowid) AS first
        {_TASKS}
        GROUP BY run_id, arm, step, task, ex_id
    )
    SELECT run_id, arm, step, task, count(*), sum(samples), sum(correct), avg(score), var_pop(score), avg(any_correct),
           sum(tokens), sum(truncated), sum(no_answer), bool_or(likelihood)
    FROM question GROUP BY run_id, arm, step, task ORDER BY min(first)
"""
# The votes of each answer of a question; all right answers vote together, an empty one has no vote.
_MAJORITIES = f"""
    WITH ballot AS (
        SELECT run_id, arm, step, task, ex_id, correct, count(*) AS votes
        {_TASKS} AND (correct OR answer <> '')
        GROUP BY run_id, arm, step, task, ex_id, correct, CASE WHEN correct THEN '' ELSE answer END
    ), top AS (
        SELECT *, max(votes) OVER (PARTITION BY run_id, arm, step, task, ex_id) AS most FROM ballot
    ), won AS (
        SELECT run_id, arm, step, task, ex_id, avg(correct::INT) AS share
        FROM top WHERE votes = most GROUP BY run_id, arm, step, task, ex_id
    )
    SELECT run_id, arm, step, task, sum(share) FROM won GROUP BY run_id, arm, step, task
"""
_DOCUMENTS = f"SELECT score, tokens {_TASKS} AND arm = $arm AND step = $step AND task = $task"


def evaluations_in(connection: duckdb.DuckDBPyConnection, run_id: str | None = None) -> list[EvalSummary]:
    """`Store.evaluations` over a connection that sees the tables as `store.TABLE`."""
    found = connection.execute(_EVALUATIONS, {"run": run_id}).fetchall()
    several = any(samples > questions for *_, questions, samples in (row[:6] for row in found))
    majorities = _majorities(connection, run_id) if several else {}
    return [_summary(connection, row, majorities) for row in found]


def _summary(
    connection: duckdb.DuckDBPyConnection, row: Sequence[Any], majorities: dict[tuple[Any, ...], float]
) -> EvalSummary:
    run, arm, step, task = key = tuple(row[:4])
    n, samples, correct, mean, variance, any_correct, tokens, truncated, no_answer, likelihood = row[4:]
    if likelihood:
        interval = _perplexity(connection, key)
        best = majority = interval.estimate
    else:
        interval = wilson_of_scores(mean, variance, n)
        best, majority = (any_correct, majorities.get(key, 0.0) / n) if samples > n else (mean, mean)
    return EvalSummary(
        run=run,
        arm=arm,
        step=step,
        task=task,
        n=n,
        samples=samples,
        correct=correct,
        rate=interval.estimate,
        low=interval.low,
        high=interval.high,
        mean_tokens=tokens / samples,
        truncated=truncated,
        no_answer=no_answer,
        measure="perplexity" if likelihood else "accuracy",
        pass_at_k=best,
        majority=majority,
    )


def _majorities(connection: duckdb.DuckDBPyConnection, run_id: str | None) -> dict[tuple[Any, ...], float]:
    found = connection.execute(_MAJORITIES, {"run": run_id}).fetchall()
    return {tuple(row[:4]): row[4] for row in found}


def _perplexity(connection: duckdb.DuckDBPyConnection, key: tuple[Any, ...]) -> Interval:
    run, arm, step, task = key
    names = {"run": run, "arm": arm, "step": step, "task": task}
    rows = connection.execute(_DOCUMENTS, names).fetchall()
    return _cached_perplexity(tuple(-score for score, _ in rows), tuple(words for _, words in rows))


@lru_cache(64)
def _cached_perplexity(nll: tuple[float, ...], words: tuple[int, ...]) -> Interval:
    """A console asks for the same evaluations every second."""
    return perplexity_interval(nll, words)
