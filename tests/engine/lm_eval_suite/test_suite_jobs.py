"""Suite jobs in the worker: rows or a reason come back, priorities hold, and a stop is seen in the middle of a task."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from engine.lm_eval_suite.evaluate import TaskFailed
from engine.protocol.messages import JobDone, JobFailed, Stop, SuiteDone, SuiteJob, SuiteTask, WeightRef
from engine.worker import Worker
from store.records import Example
from tests.engine.test_worker import DEADLINE, Child, Scripted, job, served


def suite_job(job_id: int, name: str, priority: int = 0) -> SuiteJob:
    weights = WeightRef("sft", 4, "slot")
    return SuiteJob(job_id, 4, weights, SuiteTask(name, name, 4, 0, 16, 1, 1, ""), priority=priority)


def evaluate(model: Any, task: SuiteTask, arm: str, step: int) -> Iterator[Example]:
    """Stands for lm-eval: one task fails, one never ends."""
    if task.name == "bad":
        raise TaskFailed("bad: OSError: no rows")
    while task.name == "endless":
        model._between()
    yield Example(arm, step, task.recorded, "leaf:0", 0, True, 1.0, "correct", "p", "o", 1)


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.lm_eval_suite.evaluate.evaluate", evaluate)


def test_rows_and_reasons_come_back_in_order_of_priority() -> None:
    jobs = [suite_job(1, "late", priority=2), suite_job(2, "bad"), suite_job(3, "good"), job(4)]
    results, _ = served(Scripted(), *jobs)
    ends = [result for result in results if isinstance(result, (SuiteDone, JobFailed, JobDone))]
    assert [result.job_id for result in ends] == [2, 3, 4, 1]
    failed, good = ends[:2]
    assert isinstance(failed, JobFailed)
    assert (failed.kind, failed.error) == ("suite", "bad: OSError: no rows")
    assert isinstance(good, SuiteDone)
    assert [(row.arm, row.step, row.task) for row in good.rows] == [("sft", 4, "good")]


def test_a_stop_is_seen_in_the_middle_of_a_task() -> None:
    child, generator = Child(), Scripted()
    child.trainer[0].send(suite_job(1, "endless"))
    worker = threading.Thread(target=Worker(child, lambda: generator).serve)
    worker.start()
    child.trainer[0].send(Stop())
    worker.join(DEADLINE)
    assert not worker.is_alive()
    assert generator.closed
