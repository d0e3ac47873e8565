"""Base of all screens: header, footer, and repeated reading.

A screen reads only while it is shown.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import Screen

from mathrl_tui import actions
from mathrl_tui.core import alarm_row
from mathrl_tui.core.header import header
from mathrl_tui.core.spans import Row
from mathrl_tui.host import Host
from mathrl_tui.widgets.keys import Keys
from mathrl_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import HomeData
    from mathrl_tui.reader import Reader, ReadResult


class ScreenClosed(Exception):
    """The screen is being closed, so a result can no longer be shown."""


class ConsoleScreen(Screen[None]):
    """A screen that reads every INTERVAL seconds while it is shown.

    Subclasses define NAME, `body` and `read`.
    """

    NAME: ClassVar[str]
    INTERVAL: ClassVar[float] = 1.0
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self._reading = False
        # Something changed during a read.
        self._again = False

    def compose(self) -> ComposeResult:
        """Yield the names of the screens, the screen's own widgets and the keys."""
        yield Lines(id="screens")
        yield Lines(id="alarm-line")
        with Vertical(id="body"):
            yield from self.body()
        yield Keys(compact=True, show_command_palette=False)

    @abstractmethod
    def body(self) -> ComposeResult:
        """Yield the screen's own widgets."""

    @abstractmethod
    async def read(self) -> None:
        """Read the data of the screen and show it."""

    @property
    def console(self) -> Host:
        """Return the app with the type that screens use."""
        return cast(Host, self.app)

    @property
    def reader(self) -> Reader:
        """Return the reader of the app."""
        return self.console.reader

    async def ask(self, question: Callable[[HomeData], ReadResult]) -> ReadResult:
        """Return the answer of `question` from the store.

        Raises: reader.Unreadable if the store cannot be read; ScreenClosed if the screen has been closed.
        """
        answer = await self.reader.ask(question)
        self._stay()
        return answer

    async def chosen_run(self) -> str:
        """Return the chosen run, or choose the newest one.

        None is chosen before the list of runs has been read.

        Returns: "" without runs.
        """
        if not self.console.run_id:
            newest = await self.ask(lambda home_data: home_data.newest_run())
            self.console.run_id = self.console.run_id or newest
        return self.console.run_id

    def _stay(self) -> None:
        """Raise ScreenClosed if the screen is being closed.

        Its widgets are removed first.
        """
        if not self.query("#screens"):
            raise ScreenClosed

    def on_mount(self) -> None:
        """Read for the first time after the first paint, then at every interval."""
        self.show_screens()
        self.call_after_refresh(self.read_soon)
        self.set_interval(self.INTERVAL, self._tick)

    def on_screen_resume(self) -> None:
        """Read at once when the screen returns."""
        self.show_screens()
        self.call_after_refresh(self.read_soon)

    def on_resize(self) -> None:
        """Show the header again, because it depends on the width."""
        self.show_screens()

    def _tick(self) -> None:
        if not self._reading:
            self.read_soon()

    def read_soon(self) -> None:
        """Start a read, or request another one after the current read.

        Does nothing while the screen is hidden.
        """
        if not self.is_current:
            return
        if self._reading:
            self._again = True
            return
        self._reading = True
        self.run_worker(self._read_all(), group="read")

    async def _read_all(self) -> None:
        try:
            while True:
                self._again = False
                self._stay()
                await self.console.reading(self.read)
                self.show_screens()
                if not self._again or not self.is_current:
                    return
        except ScreenClosed:
            return
        finally:
            self._reading = False

    def show_screens(self) -> None:
        """Show the names of the screens with their keys.

        The current one is highlighted.
        """
        console = self.console
        row = header(actions.SCREENS, self.NAME, console.size.width, console.trouble, str(console.home))
        # Empty if the screen has been closed.
        for line in self.query("#screens").results(Lines):
            line.show([row])
        found = alarm_row.row(console.open_alarms, console.size.width)
        for line in self.query("#alarm-line").results(Lines):
            line.display = bool(found)
            line.show([found] if found else [])

    @property
    def now(self) -> float:
        """Return the time in Unix seconds."""
        return time.time()

    def show_lines(self, selector: str, rows: Sequence[Row]) -> None:
        """Show `rows` in the Lines widget that `selector` finds."""
        self.query_one(selector, Lines).show(rows)
