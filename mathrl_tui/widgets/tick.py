"""A checkbox that shows its value by a mark, not by colour alone."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Checkbox


class Tick(Checkbox):
    """✓ if ticked, else empty."""

    def render(self) -> Content:
        """Return the checkbox with ✓ or a blank inside."""
        self.BUTTON_INNER = "✓" if self.value else " "
        return super().render()
