"""Contents of the help screen: each key and each mark.

The keys come from the table of actions.
"""

from __future__ import annotations

from collections.abc import Sequence

from mathrl_tui.core import palette
from mathrl_tui.core.spans import Row

_STATES = (
    "queued",
    "running",
    "stopping",
    "paused",
    "interrupted",
    "failed",
    "stopped",
    "done",
    "skipped",
    "pending",
    "done_with_failures",
    "incomplete",
)

_RESULTS: Row = [
    ("  ▲ ", palette.GOOD),
    ("better   ", palette.INK),
    ("▼ ", palette.BAD),
    ("worse   ", palette.INK),
    ("○ ", palette.INK),
    ("no difference shown   ", palette.INK),
    ("╎ ", palette.WARN),
    ("the watch's margin: ", palette.INK),
    ("✓ ", palette.GOOD),
    ("kept   ", palette.INK),
    ("✗ ", palette.BAD),
    ("lost   ", palette.INK),
    ("? ", palette.WARN),
    ("not settled", palette.INK),
]


def key_rows(title: str, keys: Sequence[tuple[str, str, str]]) -> list[Row]:
    """Return a titled list of (key, word, sentence)."""
    rows: list[Row] = [[(f"{title}", f"bold {palette.ACCENT}")]]
    for key, label, sentence in keys:
        rows.append(
            [(f"  {key:<6}", f"bold {palette.INK}"), (f"{label:<14}", palette.INK), (sentence, palette.DIM)]
        )
    return [*rows, []]


def mark_rows() -> list[Row]:
    """Return the marks of states in three rows, of arms, and of results."""
    rows: list[Row] = [[("Marks", f"bold {palette.ACCENT}")]]
    for part in (_STATES[:4], _STATES[4:8], _STATES[8:]):
        row: Row = [("  ", "")]
        for name in part:
            look = palette.state(name)
            words = palette.word(name)
            row.append((f"{look.mark} {words:<{max(12, len(words) + 3)}}", look.colour))
        rows.append(row)
    row = [("  ", "")]
    for name, look in palette.arms(("first arm", "second", "third", "fourth", "fifth")).items():
        row.append((f"{look.mark} {name:<12}", look.colour))
    return [*rows, row, _RESULTS, []]
