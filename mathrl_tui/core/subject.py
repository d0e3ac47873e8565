"""One line about a run: model in full, profile, changed settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mathrl_tui.core import palette, text
from mathrl_tui.core.spans import Row
from store.subject import changes, model_in_full

# NumPy comes with this import; the first paint works without it.
if TYPE_CHECKING:
    from store.results import RunSummary

# Minimum number of cells for the changed settings.
_LEAST_CHANGES = 16


def row(run: RunSummary, width: int) -> Row:
    """Return model, profile, seed and changed settings, `width` cells wide."""
    changed = changes(run.changed)
    count = f"  {len(changed)} changed: " if changed else ""
    about = f"  profile {run.profile}  seed {run.seed}{count}"
    model = text.tail(text.one_line(model_in_full(run.model)), max(width - len(about) - _LEAST_CHANGES, 24))
    spans: Row = [(" model ", palette.DIM), (model, palette.ACCENT), (about, palette.DIM)]
    room = width - sum(len(words) for words, _ in spans)
    return [*spans, (text.clip("; ".join(changed), max(room, 0)), palette.WARN)]
