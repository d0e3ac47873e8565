"""The suite as units of work, sent to the worker and recorded one by one.

A finished unit is recorded and marked at once, so a crash repeats only unfinished ones. A unit that fails is
reported and does not affect the others. A resume repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.artifacts.finished import mark_task, task_mark
from engine.context import Context
from engine.lm_eval_suite.unmeasured import Failure
from engine.pending_jobs import PendingJobs
from engine.protocol.messages import SuiteJob, SuiteTask, WeightRef, derived_seed
from profiles.schema import Arm
from store.events import LogLine, Part, ProgressReport
from store.records import LM_EVAL, LOGLIKELIHOOD, Event, Example, Record, Scalar


@dataclass(frozen=True, slots=True)
class ArmTask:
    """One task of the suite for one arm, under its `weights`."""

    arm: str
    weights: WeightRef
    task: SuiteTask

    @property
    def label(self) -> str:
        """The unit's name in marks and messages."""
        return f"{self.arm}-{self.task.recorded.replace('/', '-')}"


def units(context: Context, arms: Sequence[tuple[Arm, WeightRef]], own: Sequence[str]) -> list[ArmTask]:
    """Return every task of the suite for every arm.

    Args:
        own: names of this project's test tasks. A suite task with one of these names is recorded under
            another name.
    """
    settings = context.profile.eval
    found = []
    for arm, weights in arms:
        # Once, even if it is listed several times.
        for name in dict.fromkeys(settings.suite):
            task = SuiteTask(
                name,
                name + LM_EVAL if name in own else name,
                settings.suite_shots,
                settings.suite_limit,
                settings.max_new_tokens,
                derived_seed("suite", context.profile.data.seed) % 2**31,
                derived_seed("suite", context.seed) % 2**31,
                settings.suite_data,
                settings.window,
            )
            found.append(ArmTask(arm.name, weights, task))
    return found


def unfinished(context: Context, every: Sequence[ArmTask]) -> list[ArmTask]:
    """Return the tasks of `every` without recorded results."""
    return [unit for unit in every if not _mark(context, unit).is_file()]


def run(context: Context, pending_jobs: PendingJobs, work: Sequence[ArmTask]) -> list[Failure]:
    """Send every unit to the worker and record each result.

    Return the units that failed.
    """
    failures: list[Failure] = []
    warned: set[str] = set()
    jobs = [
        SuiteJob(pending_jobs.next_job_id(), unit.weights.version, unit.weights, unit.task) for unit in work
    ]
    for job in jobs:
        pending_jobs.submit(job)
    for done, (unit, job) in enumerate(zip(work, jobs, strict=True)):
        _await(context, pending_jobs, job.job_id, partial(_progress, unit, done, len(work)))
        answer = pending_jobs.close(job.job_id)
        if answer.failed:
            failures.append(Failure(unit.arm, answer.failed))
            message = f"suite task failed: {answer.failed}"
            context.emit(LogLine("error").event(message, "eval", unit.arm))
            continue
        _warn_of_cuts(context, unit, answer.rows or (), warned)
        _record(context, unit, answer.rows or ())
    if work:
        context.emit(ProgressReport(len(work), len(work), "suite tasks").event("", "eval"))
    return failures


def _await(
    context: Context, pending_jobs: PendingJobs, job_id: int, event_of: Callable[[tuple[int, int]], Event]
) -> None:
    """Wait for a job and report its progress.

    There is an event at its start and for each step of its progress.
    """
    last: tuple[int, int] | None = None
    while True:
        if (progress := pending_jobs.progress(job_id)) != last:
            last = progress
            context.emit(event_of(progress))
        if pending_jobs.ready(job_id):
            return
        context.control.boundary()
        pending_jobs.wait()


def _progress(unit: ArmTask, done: int, total: int, documents: tuple[int, int]) -> Event:
    """Return progress: finished tasks, and documents of the current one."""
    part = Part(unit.task.recorded, unit.arm, *documents)
    return ProgressReport(done, total, "suite tasks", part=part).event(unit.label, "eval")


def _warn_of_cuts(context: Context, unit: ArmTask, rows: Sequence[Example], warned: set[str]) -> None:
    """Warn, once per task, that prompts did not fit into the window.

    All arms have the same prompts.
    """
    cut = {row.ex_id for row in rows if row.prompt_cut}
    if not cut or unit.task.name in warned:
        return
    warned.add(unit.task.name)
    window, count = rows[0].window_tokens, len({row.ex_id for row in rows})
    message = (
        f"{unit.task.recorded}: {len(cut)} of {count} prompts did not fit into the window of {window} tokens and lost "
        "their start; raise eval.window or lower eval.suite_shots"
    )
    context.emit(LogLine("warning").event(message, "eval", unit.arm))


def _record(context: Context, unit: ArmTask, rows: Sequence[Example]) -> None:
    records: list[Record] = list(rows)
    judged = [row.score for row in rows if row.task == unit.task.recorded and row.outcome != LOGLIKELIHOOD]
    if judged:
        metric = f"{unit.arm}/eval/{unit.task.recorded}"
        records.append(Scalar(metric, unit.weights.version, sum(judged) / len(judged)))
    for record in records:
        context.emit(record)
    context.control.flush_records()
    mark_task(_mark(context, unit), records)


def _mark(context: Context, unit: ArmTask) -> Path:
    return task_mark(context.folder, unit.arm, unit.task.recorded)
