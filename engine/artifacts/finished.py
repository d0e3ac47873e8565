"""Marks of finished steps and evaluation tasks, and what each proves.

    finished/STEP            {"step": 48, "ts": 1795828405.5}: the arm's last checkpoint (null: no arm), Unix seconds
    finished/tasks/ARM-TASK  {"rows": [[arm, step, task, count], …], "scalars": [[metric, step], …]}

A mark is written when all records before it are in the journal. So a journal that lacks what a mark proves has lost
it. Older versions wrote the time alone, and empty marks of tasks. This module does not import torch.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from store.atomic import replace_text
from store.home import RunFolder
from store.private import make_folder
from store.records import Example, Record, Scalar


@dataclass(frozen=True, slots=True)
class StepMark:
    """The end of a step of the plan, and its arm's last checkpoint.

    None stands for a value that the mark lacks.
    """

    ts: float | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class TaskMark:
    """The records of one evaluation task.

    They are its number of rows by arm, step and task, and its scalars.
    """

    rows: dict[tuple[str, int, str], int]
    scalars: list[tuple[str, int]]


def mark_of(folder: RunFolder, label: str) -> Path:
    """Return the file that marks a step of the plan as finished.

    The step's label is an arm or a stage.
    """
    return folder.path / "finished" / label


def tasks_folder(folder: RunFolder) -> Path:
    """Return the folder with the marks of finished evaluation tasks."""
    return folder.path / "finished" / "tasks"


def task_mark(folder: RunFolder, arm: str, task: str) -> Path:
    """Return the file that marks an evaluation task of an arm as finished."""
    return tasks_folder(folder) / f"{arm}-{task.replace('/', '-')}"


def mark_step(folder: RunFolder, label: str, checkpoint: int | None) -> None:
    """Mark a step of the plan as finished.

    `checkpoint` is the step of its arm's last checkpoint.
    """
    _write(mark_of(folder, label), json.dumps({"step": checkpoint, "ts": time.time()}))


def mark_task(path: Path, records: Iterable[Record]) -> None:
    """Mark an evaluation task as finished. `records` are its rows and scalars."""
    rows: Counter[tuple[str, int, str]] = Counter()
    scalars: list[tuple[str, int]] = []
    for record in records:
        if isinstance(record, Example):
            rows[record.arm, record.step, record.task] += 1
        elif isinstance(record, Scalar):
            scalars.append((record.metric, record.step))
    _write(path, json.dumps({"rows": [[*key, count] for key, count in rows.items()], "scalars": scalars}))


def read_step(path: Path) -> StepMark:
    """Return what the mark of a step proves; nothing if it is damaged."""
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found, float):
            return StepMark(found)
        return StepMark(float(found["ts"]), None if found["step"] is None else int(found["step"]))
    except (ValueError, LookupError, TypeError):
        return StepMark()


def read_task(path: Path) -> TaskMark | None:
    """Return what the mark of a task proves.

    Return None for the empty mark of an older version.

    Raises: ValueError if the mark is damaged.
    """
    content = path.read_bytes()
    if not content:
        return None
    try:
        found = json.loads(content)
        rows = {(str(arm), int(step), str(task)): int(count) for arm, step, task, count in found["rows"]}
        return TaskMark(rows, [(str(metric), int(step)) for metric, step in found["scalars"]])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: the mark is damaged") from error


def _write(path: Path, text: str) -> None:
    make_folder(path.parent)
    replace_text(path, text)
