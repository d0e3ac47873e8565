"""One chart of the wall: reports what the mouse does on it."""

from __future__ import annotations

from typing import Literal

from textual import events
from textual.message import Message

from mathrl_tui.widgets.lines import Lines

Deed = Literal["point", "leave", "drag", "select", "window", "in", "out"]


class Chart(Lines):
    """One chart of the wall."""

    class Touched(Message):
        """The mouse did something on the chart.

        `cell` is where it is now, and `since` where its button was pressed, in cells from the chart's left end.
        """

        def __init__(self, place: int, deed: Deed, cell: int, since: int = 0) -> None:
            super().__init__()
            self.place, self.deed, self.cell, self.since = place, deed, cell, since

    def __init__(self, place: int) -> None:
        super().__init__(id=f"chart-{place}")
        self.place = place
        self._since: int | None = None

    def _report(self, deed: Deed, cell: int) -> None:
        self.post_message(self.Touched(self.place, deed, cell, cell if self._since is None else self._since))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Begin a selection."""
        if event.button == 1:
            self._since = event.x
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Move the crosshair, or the end of a selection."""
        self._report("point" if self._since is None else "drag", event.x)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Zoom to the selection, or move the wall's cursor here without one."""
        if self._since is None:
            return
        self.release_mouse()
        self._report("window" if abs(event.x - self._since) > 1 else "select", event.x)
        self._since = None

    def on_leave(self) -> None:
        """Remove the crosshair."""
        if self._since is None:
            self._report("leave", 0)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Zoom in at the pointer."""
        event.stop()
        self._report("in", event.x)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Zoom out at the pointer."""
        event.stop()
        self._report("out", event.x)
