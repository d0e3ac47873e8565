"""Help: each key of the previous screen and the console, and the marks."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from mathrl_tui import actions
from mathrl_tui.core import legend
from mathrl_tui.core.spans import Row
from mathrl_tui.widgets.log_view import LogView


class HelpScreen(ModalScreen[None]):
    """Help dialog; Escape, q or ? closes it."""

    BINDINGS = [("escape,q,question_mark,f1", "dismiss", "Close")]  # noqa: RUF012

    def __init__(self, screen: str) -> None:
        super().__init__()
        self._screen = screen

    def compose(self) -> ComposeResult:
        """Yield the title, and the view that lists keys and marks."""
        with Vertical(classes="dialog wide tall"):
            yield Static(
                "Keys and marks        Esc closes, Ctrl+P finds any action by its name", classes="title"
            )
            yield LogView(follow=False, id="keys")

    def on_mount(self) -> None:
        """Show the keys."""
        rows: list[Row] = []
        if self._screen:
            rows += legend.key_rows(f"On the screen {self._screen}", _keys(self._screen))
        rows += legend.key_rows("Everywhere", _keys(actions.APP))
        rows += legend.mark_rows()
        view = self.query_one(LogView)
        view.show(rows)
        view.focus()


def _keys(where: str) -> list[tuple[str, str, str]]:
    return [(actions.shown_keys(action), action.label, action.help) for action in actions.actions(where)]
