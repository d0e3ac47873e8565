"""The suite as work: which tasks of which arms are still to do, asked of the worker, recorded one by one.

A finished unit is recorded and marked at once, so a crash repeats only what was unfinished; one that fails is named
and leaves the others' results alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.collector import Collector
from engine.context import Context
from engine.messages import SuiteJob, SuiteTask, WeightRef, derived_seed
from profiles import Arm
from store.records import LM_EVAL, LOGLIKELIHOOD, Event, Example, Scalar


@dataclass(frozen=True, slots=True)
class Unit:
    """One task of one arm."""

    arm: str
    weights: WeightRef
    task: SuiteTask

    @property
    def label(self) -> str:
        """How the unit is named in marks and messages."""
        return f"{self.arm}-{self.task.recorded.replace('/', '-')}"


def units(context: Context, arms: Sequence[tuple[Arm, WeightRef]], own: Sequence[str]) -> list[Unit]:
    """What the profile asks for and no mark says is done. A task called as one of `own` is recorded behind
    another name."""
    settings = context.profile.eval
    found = []
    for arm, weights in arms:
        for name in dict.fromkeys(settings.suite):  # once, however often it is named
            task = SuiteTask(
                name,
                name + LM_EVAL if name in own else name,
                settings.suite_shots,
                settings.suite_limit,
                settings.max_new_tokens,
                derived_seed("suite", context.profile.data.seed) % 2**31,
                derived_seed("suite", context.seed) % 2**31,
                settings.suite_data,
            )
            unit = Unit(arm.name, weights, task)
            if not _mark(context, unit).is_file():
                found.append(unit)
    return found


def run(context: Context, collector: Collector, work: Sequence[Unit]) -> None:
    """Asks the worker for every unit and records each as it comes."""
    jobs = [SuiteJob(collector.next_job_id(), unit.weights.version, unit.weights, unit.task) for unit in work]
    for job in jobs:
        collector.submit(job)
    for done, (unit, job) in enumerate(zip(work, jobs, strict=True)):
        payload = {"done": done, "total": len(work), "unit": "suite tasks"}
        context.emit(Event("progress", unit.label, "eval", payload=payload))
        while not collector.ready(job.job_id):
            context.control.boundary()
            collector.wait()
        answer = collector.close(job.job_id)
        if answer.failed:
            message = f"suite task left out: {answer.failed}"
            context.emit(Event("log", message, "eval", unit.arm, payload={"level": "error"}))
            continue
        _record(context, unit, answer.rows or ())


def _record(context: Context, unit: Unit, rows: Sequence[Example]) -> None:
    for row in rows:
        context.emit(row)
    judged = [row.score for row in rows if row.task == unit.task.recorded and row.outcome != LOGLIKELIHOOD]
    if judged:
        metric = f"{unit.arm}/eval/{unit.task.recorded}"
        context.emit(Scalar(metric, unit.weights.version, sum(judged) / len(judged)))
    context.control.settled()
    mark = _mark(context, unit)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _mark(context: Context, unit: Unit) -> Path:
    return context.folder.path / "finished" / "tasks" / unit.label
