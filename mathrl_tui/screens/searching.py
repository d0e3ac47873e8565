"""The search field of a screen, for fast typing.

Textual sends a key at once to the widget that has the focus. An ordinary key of a screen acts only after its message
has passed the queues of the widget and the screen, so the keys typed right after it land in the old field. The keys
here have priority: the app moves the focus before it looks at the next key.
"""

from __future__ import annotations

from abc import abstractmethod

from textual.binding import Binding
from textual.widget import Widget
from textual.widgets import Input

from mathrl_tui.screens.base import ConsoleScreen


class SearchField(Input):
    """A hidden input that `Searching` opens and closes."""

    BINDINGS = [  # noqa: RUF012
        Binding("enter", "screen.keep_search", "Keep", show=False, priority=True),
        Binding("escape", "screen.clear_search", "Clear", show=False, priority=True),
    ]

    def __init__(self, placeholder: str) -> None:
        super().__init__(placeholder=placeholder, id="search", compact=True)


class Searching(ConsoleScreen):
    """A screen with one `SearchField`."""

    @abstractmethod
    def searched(self) -> Widget | None:
        """Return the widget that has the focus while the field is closed."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return False for the key of the search while the user types in a field."""
        if action == "search" and isinstance(self.focused, Input):
            return False
        return super().check_action(action, parameters)

    def action_search(self) -> None:
        """Open the search field."""
        field = self.query_one(SearchField)
        field.display = True
        self.set_focus(field)

    def action_keep_search(self) -> None:
        """Close the search field and keep its text."""
        self.query_one(SearchField).display = False
        self.set_focus(self.searched())

    def action_clear_search(self) -> None:
        """Clear the search field and close it."""
        self.query_one(SearchField).value = ""
        self.action_keep_search()

    def key_escape(self) -> None:
        """Clear the search."""
        self.action_clear_search()
