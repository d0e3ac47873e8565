"""The trainer process: run the stages of a plan in order.

Each is marked as done.
The supervisor starts it, and restarts it after a crash. Marked steps are then skipped, and an interrupted
stage continues from its own checkpoint. Its only outputs are records, checkpoints and jobs for the worker.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from engine.artifacts.arms import last_step
from engine.artifacts.finished import mark_of, mark_step, read_step
from engine.context import (
    ArmReopened,
    Context,
    Control,
    Generation,
    StageFailed,
    StageIncomplete,
    StopRequested,
)
from engine.data import inputs
from engine.data.cache import is_whole
from engine.ipc.orders import INCOMPLETE, REOPENED
from engine.plan import Step
from engine.stages import stage
from profiles.schema import Profile
from store.events import LogLine, StageChange
from store.home import RunFolder
from store.records import Record
from store.run_config import read_config


class TrainerInterface(Protocol):
    """The interface that the process provides to the trainer's main function."""

    @property
    def control(self) -> Control:
        """Return the pending commands of the run."""

    @property
    def generation(self) -> Generation | None:
        """Return the connection to the worker; None if the run has no worker."""

    def emit(self, record: Record) -> None:
        """Send `record` to the journal."""

    def report_fault(self, line: str) -> None:
        """Send the error that ends this process, and all records before it."""


def main(folder: RunFolder, child: TrainerInterface) -> int:
    """Run the remaining steps of the plan and return an exit status.

    0: all done; 1: a stage failed; 3: stopped by request; 4: the plan was completed, but parts of a stage
    failed; 5: an arm lost its last checkpoint and has to be trained again, by another trainer.
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


def _left(
    folder: RunFolder, profile: Profile, seed: int, plan: Sequence[Step], child: TrainerInterface
) -> list[Step]:
    """Return the steps to run.

    They have no mark, or have lost what the others need: cached output, or the last checkpoint.
    """
    unmarked = {step for step in plan if not mark_of(folder, step.label).is_file()}
    if not unmarked:
        return []
    return [
        step
        for step in plan
        if step in unmarked
        or not (_has_output if not step.arm else _has_model)(folder, profile, seed, step, child)
    ]


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


def _has_model(folder: RunFolder, profile: Profile, seed: int, step: Step, child: TrainerInterface) -> bool:
    """Return False if the last checkpoint of a finished arm is missing.

    The mark is then removed.

    The tokenizer of a base model that the run has trained is read by every stage, so that model is checked too.
    """
    wanted, found = read_step(mark_of(folder, step.label)).step, last_step(folder, step.arm)
    if wanted is not None and (found is None or found < wanted):
        mark_of(folder, step.label).unlink()
        message = f"the last checkpoint of arm {step.arm}, step {wanted}, is missing; its lost steps are trained again"
        child.emit(LogLine("warning").event(message, step.stage, step.arm))
        return False
    if step.stage != "pretrain":
        return True
    # Import late: this loads torch.
    from engine.training.fallback import whole_model

    arm = profile.arm(step.arm)
    try:
        whole_model(
            Context(folder, profile, seed, step.stage, arm, child.emit, child.control, child.generation), arm
        )
    except ArmReopened:
        return False
    except StageFailed:
        # The stage that reads the model reports why.
        return True
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
    except ArmReopened as error:
        message = f"waits until arm {error.arm} is trained again"
        child.emit(StageChange("stopped", error.arm).event(message, step.stage, step.arm))
        return REOPENED
    except StageFailed as error:
        report("failed", str(error))
        return 1
    except StageIncomplete as error:
        report("incomplete", str(error))
        return INCOMPLETE
    report("finished", f"{time.monotonic() - began:.1f} s")
    # The mark must not be ahead of the journal, or a resumed run would skip a stage with missing records.
    child.control.flush_records()
    mark_step(folder, step.label, last_step(folder, step.arm) if step.arm else None)
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
