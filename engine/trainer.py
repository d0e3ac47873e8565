"""The trainer process: run the stages of a plan in order.

Each is marked as done.
The supervisor starts it, and restarts it after a crash. Marked steps are then skipped, and an interrupted
stage continues from its own checkpoint. Its only outputs are records, checkpoints and jobs for the worker.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from engine.context import Context, Control, Generation, StageFailed, StageIncomplete, StopRequested
from engine.data import inputs
from engine.data.cache import is_whole
from engine.ipc.orders import INCOMPLETE
from engine.plan import Step
from engine.stages import stage
from profiles.schema import Profile
from store.events import StageChange
from store.home import RunFolder
from store.private import make_folder, write_text
from store.records import Record
from store.run_config import read_config


class TrainerInterface(Protocol):
    """The interface that the process provides to the trainer's main function."""

    @property
    def control(self) -> Control: ...
    @property
    def generation(self) -> Generation | None: ...
    def emit(self, record: Record) -> None: ...
    def report_fault(self, line: str) -> None: ...


def main(folder: RunFolder, child: TrainerInterface) -> int:
    """Run the remaining steps of the plan and return an exit status.

    0: all done; 1: a stage failed; 3: stopped by request; 4: the plan was completed, but parts of a stage
    failed.
    """
    config = read_config(folder.config)
    profile = config.valid_profile
    whole = 0
    for step in _left(folder, profile, config.seed, config.plan, child):
        status = _run_step(folder, profile, config.seed, step, child)
        if status == INCOMPLETE:
            whole = INCOMPLETE
        elif status:
            return status
    return whole


def marker(folder: RunFolder, step: Step) -> Path:
    """Return the file that marks `step` as finished in this run."""
    return folder.path / "finished" / step.label


def _left(
    folder: RunFolder, profile: Profile, seed: int, plan: Sequence[Step], child: TrainerInterface
) -> list[Step]:
    """Return the steps to run.

    They have no mark, or their output in the cache is missing or damaged.
    """
    unmarked = {step for step in plan if not marker(folder, step).is_file()}
    if not unmarked:
        return []
    return [step for step in plan if step in unmarked or not _has_output(folder, profile, seed, step, child)]


def _has_output(folder: RunFolder, profile: Profile, seed: int, step: Step, child: TrainerInterface) -> bool:
    """Return False if the step's cached output is missing or damaged."""
    if step.stage not in inputs.CACHED:
        return True
    context = Context(folder, profile, seed, step.stage, None, child.emit, child.control, child.generation)
    try:
        return is_whole(context, inputs.CACHED[step.stage](context), step.stage)
    except StageFailed:
        # The inputs of the output are missing. The stage that reads them reports that.
        return True


def _run_step(folder: RunFolder, profile: Profile, seed: int, step: Step, child: TrainerInterface) -> int:
    arm = profile.arm(step.arm) if step.arm else None
    context = Context(folder, profile, seed, step.stage, arm, child.emit, child.control, child.generation)

    def report(status: str, message: str = "") -> None:
        child.emit(StageChange(status).event(message, step.stage, step.arm))

    began = time.monotonic()
    report("started")
    try:
        child.control.boundary()
        _do(context, child)
    except StopRequested:
        report("stopped", "stopped by request; a resume continues from the last checkpoint")
        return 3
    except StageFailed as error:
        report("failed", str(error))
        return 1
    except StageIncomplete as error:
        report("incomplete", str(error))
        return INCOMPLETE
    report("finished", f"{time.monotonic() - began:.1f} s")
    # The mark must not be ahead of the journal, or a resumed run would skip a stage with missing records.
    child.control.flush_records()
    _mark(folder, step)
    return 0


def _do(context: Context, child: TrainerInterface) -> None:
    """Run the stage in this process or on several ranks.

    A stage that trains an arm runs on the profile's number of trainer processes.
    """
    if context.arm is not None and context.profile.hardware.trainer_processes > 1:
        # Import late: this loads torch, which not every stage needs.
        from engine.ipc.rank_processes import run_on_ranks

        run_on_ranks(context, child.report_fault)
    else:
        stage(context.stage)(context)


def _mark(folder: RunFolder, step: Step) -> None:
    path = marker(folder, step)
    make_folder(path.parent)
    temporary = path.with_suffix(".tmp")
    write_text(temporary, str(time.time()))
    temporary.replace(path)
