"""Compare a run's folder with its journal, and settle differences.

    finished/STEP without its stage event            ─▶ the event is recorded again
    checkpoints/ARM/step_N without its event         ─▶ the event is recorded again
    finished/tasks/ARM-TASK without all its records  ─▶ the mark is removed: the task is evaluated again
    checkpoints/ARM/step_N beyond the arm's records  ─▶ the loss is reported, once

A mark or a checkpoint is written only when all records before it are in the journal or in a spool file. So a
journal that lacks them has lost them, for example because a home was copied while its run was live.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.artifacts.arms import checkpoint_folders, has_weights, step_of
from engine.artifacts.finished import mark_of, read_step, read_task, tasks_folder
from engine.ipc.outbox import read_spool
from engine.supervisor.journal_summary import JournalSummary
from engine.supervisor.leftovers import spool_files
from engine.supervisor.seen_records import SeenRecords
from store.events import CheckpointSaved, LogLine, StageChange
from store.home import RunFolder
from store.records import Event
from store.run_config import Step
from store.run_progress import ENDED, RunProgress


@dataclass(slots=True)
class Proven:
    """What the run folder proves and the journal lacks.

    Attributes:
        events: events to record.
        tasks: names of evaluation tasks to repeat.
    """

    events: list[Event] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)


def settle(folder: RunFolder, plan: Sequence[Step], summary: JournalSummary, *, damaged: bool) -> Proven:
    """Remove the marks of evaluation tasks that have lost records.

    Returns: what else the journal lacks.

    Args:
        damaged: True if the journal has new damage. Then the marks of older versions, which do not give what they
            prove, are removed too.
    """
    # List the folder first: an orphaned trainer spools its records before it marks what they end.
    marks = [(step, mark_of(folder, step.label)) for step in plan if mark_of(folder, step.label).is_file()]
    checkpoints = [path for path in checkpoint_folders(folder) if has_weights(path)]
    tasks = sorted(path for path in tasks_folder(folder).glob("[!.]*") if path.is_file())
    spool = JournalSummary(SeenRecords())
    for path in spool_files(folder):
        spool.remember(read_spool(path)[0])
    unproven = [path for path in tasks if not _is_proven(path, [summary.seen, spool.seen], damaged)]
    for path in unproven:
        path.unlink()
    if unproven:
        mark_of(folder, "eval").unlink(missing_ok=True)
        marks = [(step, mark) for step, mark in marks if step.stage != "eval"]
    stages = {step.arm: step.stage for step in plan if step.arm}
    return Proven(
        [
            *_ends(marks, [summary.progress, spool.progress]),
            *_saves(folder, checkpoints, stages, summary.checkpoints | spool.checkpoints),
            *_losses(checkpoints, stages, summary, spool),
        ],
        [path.name for path in unproven],
    )


def _is_proven(path: Path, known: Sequence[SeenRecords], damaged: bool) -> bool:
    """Return True if all records that a task's mark stands for are there.

    They are in the journal or in a spool file.
    """
    try:
        mark = read_task(path)
    except ValueError:
        return False
    if mark is None:
        return not damaged
    return all(
        len(set().union(*(each.examples(*key) for each in known))) >= count
        for key, count in mark.rows.items()
    ) and all(any(each.has_scalar(*scalar) for each in known) for scalar in mark.scalars)


def _ends(marks: Sequence[tuple[Step, Path]], known: Sequence[RunProgress]) -> Iterator[Event]:
    """Yield the end of each marked step whose last event is not its end."""
    for step, path in marks:
        found = [progress.step((step.stage, step.arm)) for progress in known]
        ts = read_step(path).ts
        if ts is not None and not any(each is not None and each.status in ENDED for each in found):
            yield StageChange("finished").event("", step.stage, step.arm, ts=ts)


def _saves(
    folder: RunFolder,
    checkpoints: Sequence[Path],
    stages: Mapping[str, str],
    known: Container[tuple[str, int]],
) -> Iterator[Event]:
    """Yield an event for each checkpoint without one.

    The checkpoint of step 0 never had one.
    """
    for path in checkpoints:
        arm, step = path.parent.name, step_of(path)
        if step and (arm, step) not in known:
            saved = CheckpointSaved(str(path.relative_to(folder.home)), 0.0)
            yield saved.event(path.name, stages.get(arm, ""), arm, step, path.stat().st_mtime)


def _losses(
    checkpoints: Sequence[Path], stages: Mapping[str, str], summary: JournalSummary, spool: JournalSummary
) -> Iterator[Event]:
    """Yield a log event for each arm with a checkpoint ahead of its records."""
    newest = {path.parent.name: step_of(path) for path in sorted(checkpoints)}
    for arm, step in newest.items():
        recorded = max(summary.seen.furthest(arm), spool.seen.furthest(arm))
        if recorded < step and (arm, step) not in summary.lost:
            message = (
                f"the journal has records of arm {arm} up to step {recorded}, but its checkpoint is of step {step}: "
                "the records in between are lost; the weights are not affected"
            )
            yield LogLine("warning", "supervisor", lost=step).event(message, stages.get(arm, ""), arm, step)
