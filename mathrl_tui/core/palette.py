"""Colours and marks: every state and arm has both, so that colour alone never carries the meaning.

The arms' colours are Okabe and Ito's set (2008), lightened for a dark ground; it stays apart under the three common
colour-vision deficiencies. Every mark is one cell wide in all terminals that were tried (tmux, xterm, kitty).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """How something is shown: a one-cell mark and a colour."""

    mark: str
    colour: str


GROUND = "#0f141b"
INK = "#d7dee8"
DIM = "#7d8a9a"
FAINT = "#3a4654"
ACCENT = "#5cb8f0"
GOOD = "#2fc79a"
WARN = "#f0b429"
BAD = "#ff7a5c"

STATES: dict[str, Look] = {
    "queued": Look("…", WARN),
    "running": Look("▸", ACCENT),
    "stopping": Look("◂", WARN),
    "paused": Look("‖", WARN),
    "interrupted": Look("!", BAD),
    "failed": Look("✗", BAD),
    "stopped": Look("■", DIM),
    "done_with_failures": Look("½", WARN),
    "incomplete": Look("½", WARN),
    "done": Look("✓", GOOD),
    "finished": Look("✓", GOOD),
    "started": Look("▸", ACCENT),
    "skipped": Look("»", GOOD),
    "pending": Look("○", DIM),
    "unplanned": Look("·", FAINT),
}

_ARM_LOOKS = (
    Look("●", "#b8c4d0"),
    Look("▲", "#f0a830"),
    Look("■", "#5cb8f0"),
    Look("◆", "#2fc79a"),
    Look("▼", "#e58fc0"),
    Look("★", "#f2e65c"),
    Look("✚", "#ff7a5c"),
)


def state(name: str) -> Look:
    """The look of a run's or a stage's state; an unknown one is shown with a question mark."""
    return STATES.get(name, Look("?", WARN))


def word(name: str) -> str:
    """Return how a state is written for a person: `done with failures`."""
    return name.replace("_", " ")


def arms(names: Iterable[str]) -> dict[str, Look]:
    """Each arm's look, in the order given; the looks repeat after the seventh arm."""
    return {name: _ARM_LOOKS[index % len(_ARM_LOOKS)] for index, name in enumerate(names)}
