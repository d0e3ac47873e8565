"""What a run is about, in a line of the console: its model in full, its profile and the settings that it changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mathrl_tui.core import palette, text
from store.subject import changes, model_in_full

if TYPE_CHECKING:  # NumPy comes with it, which the first paint does without
    from store.results import RunSummary

_LEAST_CHANGES = 16  # cells that the changed settings have at least

Span = tuple[str, str]
Row = list[Span]


def row(run: RunSummary, width: int) -> Row:
    """Return model, profile, seed and changed settings as one line of `width` cells."""
    changed = changes(run.changed)
    count = f"  {len(changed)} changed: " if changed else ""
    about = f"  profile {run.profile}  seed {run.seed}{count}"
    model = text.tail(text.one_line(model_in_full(run.model)), max(width - len(about) - _LEAST_CHANGES, 24))
    spans: Row = [(" model ", palette.DIM), (model, palette.ACCENT), (about, palette.DIM)]
    room = width - sum(len(words) for words, _ in spans)
    return [*spans, (text.clip("; ".join(changed), max(room, 0)), palette.WARN)]
