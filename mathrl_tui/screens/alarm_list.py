"""The list of alarms of all live runs."""

from __future__ import annotations

from typing import cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from mathrl_tui.core import alarm_row
from mathrl_tui.host import Host
from mathrl_tui.widgets.log_view import LogView


class AlarmList(ModalScreen[None]):
    """Dialog that lists alarms; `a` acknowledges all that it shows."""

    BINDINGS = [("escape,q,A", "dismiss", "Close"), ("a", "acknowledge", "Acknowledge")]  # noqa: RUF012

    def compose(self) -> ComposeResult:
        """Yield the title and the view that lists the alarms."""
        with Vertical(classes="dialog wide tall"):
            yield Static("Alarms        a acknowledges all, Esc closes", classes="title")
            yield LogView(follow=False, id="keys")

    def on_mount(self) -> None:
        """Show the alarms, and again every second."""
        self._show()
        self.query_one(LogView).focus()
        self.set_interval(1.0, self._show)

    def _show(self) -> None:
        host = cast(Host, self.app)
        self.query_one(LogView).show(alarm_row.list_rows(host.alarms or (), host.acknowledged))

    def action_acknowledge(self) -> None:
        """Remove the alarms from the header; they stay in the list."""
        host = cast(Host, self.app)
        host.acknowledged |= set(host.alarms or ())
        self._show()
