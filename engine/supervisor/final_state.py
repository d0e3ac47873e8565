"""The final state of a run, from the exit status of its trainer."""

from __future__ import annotations

from engine.ipc.orders import INCOMPLETE, REOPENED
from store.records import RunState

TERMINATED = "terminated by the system ({signal}); no new checkpoint was started, the last one is kept"


def final_state(status: int, stopped_by: str, failure: str) -> tuple[RunState, str]:
    """Return the run's final state and its reason.

    Args:
        status: exit status of the trainer's main function; see engine.ipc.orders.MainReturned.
        stopped_by: origin of the request to stop; empty without one.
        failure: the message of the last stage that failed completely or in part.
    """
    if status == 0:
        return "done", ""
    if status == INCOMPLETE:
        return "done_with_failures", failure
    if status in (3, REOPENED) and stopped_by:
        return "interrupted", f"stopped by {stopped_by}"
    if status == 3:
        return "interrupted", TERMINATED.format(signal="SIGTERM to the trainer")
    return "failed", failure or f"the trainer exited with status {status}; see logs/trainer.log"


def damaged_each_time(arm: str) -> str:
    """Return the reason of a run whose `arm` was trained again in vain."""
    return (
        f"the last checkpoint of arm {arm} was damaged again each time it was written; check the disk and the memory "
        "of this machine, or move the home to another disk, then resume the run"
    )
