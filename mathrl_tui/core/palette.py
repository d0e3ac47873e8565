"""Colours and marks of states and arms.

Each has both, so no meaning depends on colour alone. The arms' colours are the set of Okabe and Ito (2008),
lightened for a dark background. They stay distinct under the three common colour-vision deficiencies. Marks
are one cell wide in all tested terminals (tmux, xterm, kitty).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """Appearance of an item: a one-cell mark and a colour."""

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

# Colours of runs that are drawn together, the most different first.
RUN_COLOURS = ("#5cb8f0", "#f0a830", "#2fc79a", "#e58fc0", "#f2e65c", "#ff7a5c", "#b59cff", "#b8c4d0")
# A number of marks without a common factor with the colours, so that all pairs differ.
_RUN_MARKS = ("●", "▲", "■", "◆", "▼", "★", "✚")


def run_look(place: int) -> Look:
    """Return the look of the run at `place`.

    The first eight have different colours, the first 56 differ in colour or mark.
    """
    return Look(_RUN_MARKS[place % len(_RUN_MARKS)], RUN_COLOURS[place % len(RUN_COLOURS)])


def state(name: str) -> Look:
    """Return the look of a run's or a stage's state.

    An unknown state gets a question mark.
    """
    return STATES.get(name, Look("?", WARN))


def shown_state(name: str, reason: str) -> str:
    """Return the state to show for a recorded state and its reason.

    A stop that a user requested is recorded as 'interrupted', but is not a fault: it is shown as 'stopped'.
    A stop by an alarm remains one.
    """
    is_wanted = reason.startswith("stopped by ") and not reason.startswith("stopped by alarm ")
    return "stopped" if name == "interrupted" and is_wanted else name


def gain_colour(low: float, high: float) -> str:
    """Return the colour of a difference with this interval.

    It is that of better, worse or undecided.
    """
    return GOOD if low > 0 else BAD if high < 0 else INK


def word(name: str) -> str:
    """Return the words for a state: `done with failures`."""
    return name.replace("_", " ")


def arms(names: Iterable[str]) -> dict[str, Look]:
    """Return the look of each arm, in input order.

    Looks repeat after the seventh arm.
    """
    return {name: _ARM_LOOKS[index % len(_ARM_LOOKS)] for index, name in enumerate(names)}
