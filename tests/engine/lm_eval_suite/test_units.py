"""The suite as work: what it tells while it goes on, what it warns of, and how it ends when tasks fail."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from engine.context import StageFailed, StageIncomplete
from engine.lm_eval_suite import units as suite
from engine.lm_eval_suite.unmeasured import AttemptedTasks, judge
from engine.pending_jobs import PendingJobs
from engine.protocol.messages import (
    JobFailed,
    SuiteDone,
    SuiteJob,
    SuiteProgress,
    WeightRef,
    Work,
    WorkerResult,
)
from profiles.load import load
from store.records import Example, Record, Scalar
from tests.support.stage_context import lines_of, make_context

TASKS = ("arc_challenge", "mmlu", "wikitext")
ARMS = ("base", "sft")


class Worker:
    """A `Generation` that does one job at each look: 2 documents in `steps`, and fails the tasks that are `bad`."""

    def __init__(
        self, bad: tuple[str, ...] = (), steps: tuple[int, ...] = (), cut: dict[str, int] | None = None
    ) -> None:
        self.bad, self.steps, self.cut = bad, steps, cut or {}
        self.numbers = count(1)
        self.asked: list[str] = []
        self.left: list[list[WorkerResult]] = []

    def next_job_id(self) -> int:
        return next(self.numbers)

    def submit(self, job: Work) -> None:
        assert isinstance(job, SuiteJob)
        arm, name = job.weights.arm, job.task.name
        self.asked.append(f"{arm} {name}")
        self.left += [[SuiteProgress(job.job_id, "suite", done, 2)] for done in self.steps]
        if name in self.bad:
            self.left.append([JobFailed(job.job_id, "suite", f"{name}: OSError: no rows")])
            return
        rows = tuple(_row(arm, job.task.recorded, n, self.cut.get(name, 0) * (n == 0)) for n in range(2))
        self.left.append([SuiteDone(job.job_id, "suite", rows)])

    def poll(self, timeout: float) -> list[WorkerResult]:
        return self.left.pop(0) if timeout and self.left else []


def _row(arm: str, task: str, number: int, cut: int) -> Example:
    return Example(arm, 0, task, f"{task}:{number}", 0, number == 0, float(number == 0), "correct", "p", "o", 0,
                   prompt_cut=cut, window_tokens=512)  # fmt: skip


def evaluate(home: Path, worker: Worker, told: list[Record] | None = None) -> None:
    """Does what the stage does with the suite."""
    profile = load("demo", [f"eval.suite={list(TASKS)!r}".replace("'", '"')])
    context, records = make_context(home, profile)
    arms = [(profile.arm(name), WeightRef(name, 0, "folder")) for name in ARMS]
    every = suite.units(context, arms, [])
    try:
        failures = suite.run(context, PendingJobs(worker), suite.unfinished(context, every))
        judge(AttemptedTasks("suite tasks", len(every), failures))
    finally:
        if told is not None:
            told += records


def test_the_window_of_the_profile_goes_with_every_task(tmp_path: Path) -> None:
    profile = load("demo", ['eval.suite=["mmlu"]', "eval.window=777"])
    context, _ = make_context(tmp_path, profile)
    (unit,) = suite.units(context, [(profile.arms[0], WeightRef("base", 0, "x"))], [])
    assert unit.task.window == 777


def test_nothing_measured_fails_the_stage_and_some_leave_it_incomplete(tmp_path: Path) -> None:
    with pytest.raises(
        StageFailed,
        match=r"^nothing was measured: 6 of 6 suite tasks failed: arc_challenge: .* \(base, sft\)",
    ):
        evaluate(tmp_path / "a", Worker(bad=TASKS))
    with pytest.raises(
        StageIncomplete, match=r"^2 of 6 suite tasks failed: mmlu: OSError: no rows \(base, sft\)$"
    ):
        evaluate(tmp_path / "b", Worker(bad=("mmlu",)))
    evaluate(tmp_path / "c", Worker())


def test_a_resume_asks_only_what_failed_and_does_not_fail_for_what_was_measured_before(
    tmp_path: Path,
) -> None:
    with pytest.raises(StageIncomplete):
        evaluate(tmp_path, Worker(bad=("mmlu",)))
    again = Worker(bad=("mmlu",))
    with pytest.raises(StageIncomplete, match="2 of 6"):
        evaluate(tmp_path, again)
    assert again.asked == ["base mmlu", "sft mmlu"]
    evaluate(tmp_path, Worker())
    idle = Worker()
    evaluate(tmp_path, idle)
    assert idle.asked == []


def test_progress_within_a_task_is_told_once_a_step(tmp_path: Path) -> None:
    told: list[Record] = []
    evaluate(tmp_path, Worker(steps=(0, 1, 1, 2)), told)
    progress = [event.payload for event in lines_of(told, "progress")]
    of_first = [each for each in progress if each["done"] == 0]
    assert [(each["part"]["done"], each["part"]["total"]) for each in of_first] == [
        (0, 0),
        (0, 2),
        (1, 2),
        (2, 2),
    ]
    assert {(each["part"]["arm"], each["part"]["name"]) for each in of_first} == {("base", "arc_challenge")}
    assert progress[-1] == {"done": 6, "total": 6, "unit": "suite tasks"}


def test_prompts_that_did_not_fit_are_counted_and_warned_of_once_a_task(tmp_path: Path) -> None:
    told: list[Record] = []
    evaluate(tmp_path, Worker(cut={"mmlu": 31}), told)
    (warning,) = [event for event in lines_of(told, "log") if event.payload["level"] == "warning"]
    assert warning.message.startswith("mmlu: 1 of 2 prompts did not fit into the window of 512 tokens")


def test_every_failure_is_told_with_its_arm_and_reason(tmp_path: Path) -> None:
    told: list[Record] = []
    with pytest.raises(StageIncomplete):
        evaluate(tmp_path, Worker(bad=("mmlu",)), told)
    errors = [event for event in lines_of(told, "log") if event.payload["level"] == "error"]
    assert [(event.arm, event.message) for event in errors] == [
        (arm, "suite task failed: mmlu: OSError: no rows") for arm in ARMS
    ]
    assert {record.metric for record in told if isinstance(record, Scalar)} == {
        f"{arm}/eval/{task}" for arm in ARMS for task in ("arc_challenge", "wikitext")
    }
