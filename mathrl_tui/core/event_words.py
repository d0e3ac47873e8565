"""One line of text for an event, for `attach` and the screen Run."""

from __future__ import annotations

from store.events import CheckpointSaved, CommandReceived, PhaseChange, ProcessChange, StageChange, details_of
from store.records import Event


def event_words(event: Event) -> str:
    """Return what happened to which arm, stage or process.

    Returns: "" for an event that has no text.
    """
    label = event.arm or event.stage
    match details_of(event):
        case StageChange(status):
            return f"{label}: {status}" + (f", {event.message}" if event.message else "")
        case CheckpointSaved():
            return f"{label}: checkpoint at step {event.step}"
        case ProcessChange(role, pid, True):
            return f"{role}: process {pid} started"
        case ProcessChange(role, pid, False, reason):
            reason = reason or event.message
            return f"{role}: process {pid} ended" + (f" ({reason})" if reason else "")
        case CommandReceived(command, origin):
            return f"command {command} from {origin}"
        case PhaseChange(phase):
            return f"{label}: {event.message or phase}".removeprefix(": ")
        case _:
            return event.message
