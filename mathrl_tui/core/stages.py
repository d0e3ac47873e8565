"""The progress of a step in words."""

from __future__ import annotations

from mathrl_tui.core import text
from store.events import Part
from store.run_progress import StepProgress


def progress_words(step: StepProgress, now: float) -> str:
    """Return the progress of a started step: `23/50 steps, 0:41 left`.

    `now` is in Unix seconds.
    """
    if step.status != "started":
        return ""
    words = f"{step.done}/{step.total} {step.unit}".strip() if step.total else step.message
    if step.part:
        words += f", {part_words(step.part)}"
    left = step.remaining(now)
    return words if left is None else f"{words}, {text.duration(left)} left".removeprefix(", ")


def part_words(part: Part) -> str:
    """Return the progress of the current task: `base mmlu 3,120/14,042`."""
    return text.part(part.name, part.arm, part.done, part.total)
