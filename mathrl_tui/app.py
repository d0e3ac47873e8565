"""The console: a client of the store and of the runs' supervisors.

Closing or killing the console does not change a run.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.drivers.linux_driver import LinuxDriver
from textual.screen import Screen
from textual.theme import Theme

from mathrl_tui import actions
from mathrl_tui.core import palette
from mathrl_tui.host import Host
from mathrl_tui.reader import Unreadable
from mathrl_tui.screens.help import HelpScreen

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


class TolerantDriver(LinuxDriver):
    """A driver that survives input that is not UTF-8.

    Terminals send legacy mouse reports after a tmux re-attach.
    """

    def run_input_thread(self) -> None:
        """Read keys; after undecodable bytes start again with the next input."""
        while not self.exit_event.is_set():
            try:
                super().run_input_thread()
            except UnicodeDecodeError:
                continue


def _opener(name: str) -> Callable[[], Screen[None]]:
    """Return a factory of the screen `name`.

    It imports the module when the screen is first shown.
    """

    def make() -> Screen[None]:
        module = import_module(f"mathrl_tui.screens.{name}")
        screen: Screen[None] = getattr(module, f"{name.capitalize()}Screen")()
        return screen

    return make


class ActionProvider(Provider):
    """Command-palette entries: actions of the current screen and the app."""

    async def discover(self) -> Hits:
        for action in self._actions():
            yield DiscoveryHit(action.label, self._runner(action), help=_described(action))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._actions():
            words = f"{action.label}: {action.help}"
            if (score := matcher.match(words)) > 0:
                yield Hit(score, matcher.highlight(words), self._runner(action), help=_described(action))

    def _actions(self) -> tuple[actions.Action, ...]:
        name = getattr(self.screen, "NAME", "")
        return (*actions.actions(name), *actions.actions(actions.APP))

    def _runner(self, action: actions.Action) -> Callable[[], Awaitable[bool]]:
        target = self.app if actions.APP in action.where else self.screen
        return lambda: self.app.run_action(action.name, default_namespace=target)


def _described(action: actions.Action) -> str:
    return f"{action.help}  [{actions.shown_keys(action)}]"


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
        super().__init__(home, TolerantDriver)
        self.register_theme(THEME)
        self.theme = THEME.name
        # Every frame is sent over an SSH connection.
        self.animation_level = "none"

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

    def action_help(self) -> None:
        """Show all keys."""
        self.push_screen(HelpScreen(getattr(self.screen, "NAME", "")))


def run_console(home: Path) -> None:
    """Open the console over `home`; return when it is closed."""
    # With exported COLUMNS or LINES the console would not follow the size of its terminal.
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    Console(home).run()
