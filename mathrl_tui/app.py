"""The console: a client of the store and of the runs' supervisors.

Closing or killing the console does not change a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.screen import Screen
from textual.theme import Theme

from mathrl_tui import actions
from mathrl_tui.command_palette import ActionProvider
from mathrl_tui.core import palette
from mathrl_tui.crash import Crash, crashed
from mathrl_tui.host import Host
from mathrl_tui.reader import Unreadable
from mathrl_tui.screens.alarm_list import AlarmList
from mathrl_tui.screens.help import HelpScreen
from mathrl_tui.terminal_driver import TerminalDriver

THEME = Theme(
    name="mathrl",
    primary=palette.ACCENT,
    secondary="#8aa4c0",
    accent=palette.ACCENT,
    foreground=palette.INK,
    background=palette.GROUND,
    surface="#151c25",
    panel="#1a222c",
    success=palette.GOOD,
    warning=palette.WARN,
    error=palette.BAD,
    dark=True,
    variables={"footer-key-foreground": palette.ACCENT, "footer-background": "#151c25"},
)


def _opener(name: str) -> Callable[[], Screen[None]]:
    """Return a factory of the screen `name`.

    It imports the module when the screen is first shown.
    """

    def make() -> Screen[None]:
        module = import_module(f"mathrl_tui.screens.{name}")
        screen: Screen[None] = getattr(module, f"{name.capitalize()}Screen")()
        return screen

    return make


class Console(Host):
    """The app: screens, keys and command palette."""

    TITLE = "mathrl-tui"
    CSS_PATH = "mathrl_tui.tcss"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[None]]]] = {
        name: _opener(name) for name in actions.SCREENS
    }
    DEFAULT_MODE = actions.RUNS
    BINDINGS = actions.bindings(actions.APP)
    COMMANDS = {ActionProvider}  # noqa: RUF012

    def __init__(self, home: Path) -> None:
        super().__init__(home, TerminalDriver)
        self.register_theme(THEME)
        self.theme = THEME.name
        # Every frame is sent over an SSH connection.
        self.animation_level = "none"
        # The first unhandled error.
        self.crash: Crash | None = None

    @work(group="export", exclusive=True)
    async def action_export(self) -> None:
        """Write the selected run's results as files."""
        run_id = self.run_id
        if not run_id:
            self.show_notice("no run is chosen: press 1 and choose one", "warning")
            return
        try:
            folder = await self.reader.ask(lambda home_data: home_data.export(run_id))
        except Unreadable as error:
            self.show_notice(f"export of {run_id}: {error}", "error")
        else:
            self.show_notice(f"{run_id}: results written to {folder}")

    def _handle_exception(self, error: Exception) -> None:
        """Keep an unhandled error for `run_console`, and close the console.

        Textual's own traceback shows the values of variables, which may be private.
        """
        self.crash = self.crash or Crash(error, _named(self.screen_stack), self.size)
        super()._handle_exception(error)
        self._exit_renderables.clear()

    def action_redraw(self) -> None:
        """Send the whole screen again."""
        if isinstance(self._driver, TerminalDriver):
            self._driver.send_all_again()
        self.screen.refresh(layout=True)

    def action_alarms(self) -> None:
        """Show the list of alarms."""
        if not isinstance(self.screen, AlarmList):
            self.push_screen(AlarmList())

    def action_help(self) -> None:
        """Show all keys."""
        self.push_screen(HelpScreen(getattr(self.screen, "NAME", "")))


def _named(screens: Sequence[Screen[Any]]) -> str:
    """Return the names of stacked screens, the lowest first."""
    return " / ".join(getattr(screen, "NAME", type(screen).__name__) for screen in screens) or "none"


def run_console(home: Path) -> None:
    """Open the console over `home`; return when it is closed.

    Raises: ConsoleCrashed, with the name of the crash file, after an unhandled error.
    """
    # With exported COLUMNS or LINES the console would not follow the size of its terminal.
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    console = Console(home)
    console.run()
    if console.crash is not None:
        raise crashed(console.crash, home) from console.crash.cause
