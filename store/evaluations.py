"""Summary of each arm on each task, from the evaluation rows.

The summaries hold rates, perplexities, and pass@k and majority for several samples a question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import duckdb

from store.records import LOGLIKELIHOOD, SCORED, UNANSWERED
from store.results import EvalSummary
from store.statistics.interval import Interval
from store.statistics.perplexity import perplexity_interval
from store.statistics.rates import wilson_of_scores

_TASKS = """
    FROM store.eval_row
    WHERE task NOT IN ('train', 'validation') AND ($run IS NULL OR run_id = $run)
"""
# A generated completion has tokens or a recorded end. A choice from a list has neither.
_QUESTIONS = f"""
    SELECT run_id, arm, step, task, ex_id, count(*) AS samples, sum(correct::INT) AS correct, avg(score) AS score,
           max(correct::INT) AS any_correct, sum(tokens) AS tokens, bool_or(outcome = '{LOGLIKELIHOOD}') AS likelihood,
           bool_or(outcome = '{SCORED}' OR (score > 0 AND score < 1 AND outcome <> '{LOGLIKELIHOOD}')) AS shares,
           sum((finish <> '' OR tokens > 0)::INT) AS generated, sum((finish <> '')::INT) AS ended,
           sum((finish = 'length')::INT) AS cut_off,
           sum((outcome IN {tuple(sorted(UNANSWERED))})::INT) AS no_answer,
           max((prompt_cut > 0)::INT) AS prompt_cut, max(window_tokens) AS window_tokens, min(rowid) AS first
    {_TASKS}
    GROUP BY run_id, arm, step, task, ex_id
"""
_EVALUATIONS = f"""
    SELECT run_id AS run, arm, step, task, count(*) AS n, sum(samples)::BIGINT AS samples,
           sum(correct)::BIGINT AS correct, avg(score) AS mean, var_pop(score) AS variance,
           avg(any_correct) AS any_correct, sum(tokens)::BIGINT AS tokens, bool_or(likelihood) AS likelihood,
           bool_or(shares) AS shares, sum(generated)::BIGINT AS generated, sum(ended)::BIGINT AS ended,
           sum(cut_off)::BIGINT AS cut_off, sum(no_answer)::BIGINT AS no_answer,
           sum(prompt_cut)::BIGINT AS prompts_cut, max(window_tokens) AS window_tokens
    FROM ({_QUESTIONS}) GROUP BY run_id, arm, step, task ORDER BY min(first)
"""
# Count the votes for each answer of a question. All correct answers vote together; an empty one has no vote.
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
_CONFIGS = """
    SELECT run_id, last(config ORDER BY rowid) FROM store.run
    WHERE $run IS NULL OR run_id = $run GROUP BY run_id
"""
_DOCUMENTS = f"SELECT score, tokens {_TASKS} AND arm = $arm AND step = $step AND task = $task"


def evaluations_in(connection: duckdb.DuckDBPyConnection, run_id: str | None = None) -> list[EvalSummary]:
    """Return the evaluations of `run_id`, or of all runs if None.

    They come run by run, in the order of the run's arms. `connection` must see the tables as `store.TABLE`.
    """
    result = connection.execute(_EVALUATIONS, {"run": run_id})
    names = [column[0] for column in result.description or ()]
    found = _by_arm(connection, run_id, [dict(zip(names, row, strict=True)) for row in result.fetchall()])
    several = any(row["samples"] > row["n"] for row in found)
    majorities = _majorities(connection, run_id) if several else {}
    return [_summary(connection, row, majorities) for row in found]


def _by_arm(
    connection: duckdb.DuckDBPyConnection, run_id: str | None, rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Order summaries by their run's arms, then by step.

    The order of arrival is not enough: an evaluation that a resume repeats arrives after those of later arms.
    """
    runs = {run: place for place, run in enumerate(dict.fromkeys(row["run"] for row in rows))}
    tasks = {task: place for place, task in enumerate(dict.fromkeys(row["task"] for row in rows))}
    configs = dict(connection.execute(_CONFIGS, {"run": run_id}).fetchall())
    arms = {
        (run, arm["name"]): place
        for run in runs
        for place, arm in enumerate(json.loads(configs.get(run, "{}")).get("profile", {}).get("arms", ()))
    }
    return sorted(
        rows,
        key=lambda row: (
            runs[row["run"]],
            arms.get((row["run"], row["arm"]), len(arms)),
            row["step"],
            tasks[row["task"]],
        ),
    )


def _summary(
    connection: duckdb.DuckDBPyConnection, row: Mapping[str, Any], majorities: Mapping[tuple[Any, ...], float]
) -> EvalSummary:
    key = (row["run"], row["arm"], row["step"], row["task"])
    n, samples, likelihood, shares = row["n"], row["samples"], row["likelihood"], row["shares"]
    interval = (
        _perplexity(connection, key) if likelihood else wilson_of_scores(row["mean"], row["variance"], n)
    )
    generated = 0 if likelihood else row["generated"]
    sampled = (row["any_correct"], majorities.get(key, 0.0) / n) if samples > n else (row["mean"],) * 2
    best, majority = sampled if generated and not shares else (None, None)
    return EvalSummary(
        run=row["run"],
        arm=row["arm"],
        step=row["step"],
        task=row["task"],
        n=n,
        samples=samples,
        correct=None if likelihood or shares else row["correct"],
        rate=interval.estimate,
        low=interval.low,
        high=interval.high,
        mean_tokens=row["tokens"] / generated if generated else None,
        mean_words=row["tokens"] / samples if likelihood else None,
        cut_off=row["cut_off"] if generated and row["ended"] == generated else None,
        no_answer=row["no_answer"] if generated else None,
        measure="perplexity" if likelihood else "accuracy",
        pass_at_k=best,
        majority=majority,
        prompts_cut=row["prompts_cut"] if row["window_tokens"] and not likelihood else None,
        window_tokens=row["window_tokens"] or None,
    )


def _majorities(connection: duckdb.DuckDBPyConnection, run_id: str | None) -> dict[tuple[Any, ...], float]:
    found = connection.execute(_MAJORITIES, {"run": run_id}).fetchall()
    return {tuple(row[:4]): row[4] for row in found}


def _perplexity(connection: duckdb.DuckDBPyConnection, key: tuple[str, str, int, str]) -> Interval:
    run, arm, step, task = key
    names = {"run": run, "arm": arm, "step": step, "task": task}
    rows = connection.execute(_DOCUMENTS, names).fetchall()
    return _cached_perplexity(tuple(-score for score, _ in rows), tuple(words for _, words in rows))


@lru_cache(64)
def _cached_perplexity(nll: tuple[float, ...], words: tuple[int, ...]) -> Interval:
    """Return the cached interval: a console requests it every second."""
    return perplexity_interval(nll, words)
