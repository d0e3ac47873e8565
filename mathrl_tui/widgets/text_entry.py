"""A line at the bottom of a screen for one text: a filter, tags, a note."""

from __future__ import annotations

from textual import events, on
from textual.message import Message
from textual.widgets import Input


class TextEntry(Input):
    """An input that is hidden until `open`.

    Enter keeps the text, Escape the one before."""

    class Edited(Message):
        """The text changed while the line is open."""

        def __init__(self, purpose: str, value: str) -> None:
            super().__init__()
            self.purpose, self.value = purpose, value

    class Closed(Message):
        """The line was closed with the text `value`.

        `purpose` and `about` are those of `open`. `kept` is False after Escape."""

        def __init__(self, purpose: str, about: str, value: str, kept: bool) -> None:
            super().__init__()
            self.purpose, self.about, self.value, self.kept = purpose, about, value, kept

    def __init__(self) -> None:
        super().__init__(id="entry", compact=True)
        self.display = False
        self._purpose = self._about = self._before = ""

    def open(self, purpose: str, hint: str, value: str, about: str = "") -> None:
        """Show the line with `value`; it takes the keys from this moment on."""
        self._purpose, self._about, self._before = purpose, about, value
        self.placeholder = hint
        self.border_subtitle = hint
        self.display = True
        self.value = value
        self.cursor_position = len(value)
        # Not `focus`, which waits for a refresh: keys typed meanwhile would go to the table.
        self.screen.set_focus(self)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.display:
            self.post_message(self.Edited(self._purpose, event.value))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._close(self.value, kept=True)

    def on_key(self, event: events.Key) -> None:
        """Close the line on Escape."""
        if event.key == "escape":
            event.stop()
            self._close(self._before, kept=False)

    def _close(self, value: str, *, kept: bool) -> None:
        if self.display:
            self.display = False
            self.post_message(self.Closed(self._purpose, self._about, value, kept))
