"""What all screens share: the line of screens at the top, the footer, and reading that repeats while they are shown."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import Screen

from mathrl_tui import actions
from mathrl_tui.core.header import header
from mathrl_tui.host import Host
from mathrl_tui.widgets.keys import Keys
from mathrl_tui.widgets.lines import Lines, Row

if TYPE_CHECKING:
    from mathrl_tui.core.feed import Feed
    from mathrl_tui.reader import Reader


Answer = TypeVar("Answer")


class Left(Exception):
    """The screen is being taken down, and what is read for it has no place to go."""


class ConsoleScreen(Screen[None]):
    """A screen that reads every INTERVAL seconds while it is shown. Subclasses give NAME, `body` and `read`."""

    NAME: ClassVar[str]
    INTERVAL: ClassVar[float] = 1.0
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self._reading = False
        self._again = False  # something changed while it was being read

    def compose(self) -> ComposeResult:
        yield Lines(id="screens")
        with Vertical(id="body"):
            yield from self.body()
        yield Keys(compact=True, show_command_palette=False)

    @abstractmethod
    def body(self) -> ComposeResult:
        """The screen's own widgets."""

    @abstractmethod
    async def read(self) -> None:
        """Reads what the screen shows and shows it."""

    @property
    def console(self) -> Host:
        """The app, as screens know it."""
        return cast(Host, self.app)

    @property
    def reader(self) -> Reader:
        """Where the screen's questions go."""
        return self.console.reader

    async def ask(self, question: Callable[[Feed], Answer]) -> Answer:
        """`question`'s answer from the store. Raises reader.Unreadable, or Left: there is no place to show it."""
        answer = await self.reader.ask(question)
        self._stay()
        return answer

    def _stay(self) -> None:
        """Raises Left where the screen is being left: its widgets go first."""
        if not self.query("#screens"):
            raise Left

    def on_mount(self) -> None:
        """Reads for the first time after the first paint, then at every interval."""
        self.show_screens()
        self.call_after_refresh(self.read_soon)
        self.set_interval(self.INTERVAL, self._tick)

    def on_screen_resume(self) -> None:
        """Shows the present at once when the screen comes back."""
        self.show_screens()
        self.call_after_refresh(self.read_soon)

    def on_resize(self) -> None:
        """The line of screens depends on the width."""
        self.show_screens()

    def _tick(self) -> None:
        if not self._reading:
            self.read_soon()

    def read_soon(self) -> None:
        """Starts to read, or to read again when the reading under way is done; nothing while out of sight."""
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
        except Left:
            return
        finally:
            self._reading = False

    def show_screens(self) -> None:
        """The screens' names with their keys; the one in sight stands out."""
        console = self.console
        row = header(actions.SCREENS, self.NAME, console.size.width, console.trouble, str(console.home))
        for line in self.query("#screens").results(Lines):  # none where the screen has been left meanwhile
            line.show([row])

    @property
    def now(self) -> float:
        """The time, Unix seconds."""
        return time.time()

    def show_lines(self, selector: str, rows: Sequence[Row]) -> None:
        """Shows `rows` in the Lines widget that `selector` finds."""
        self.query_one(selector, Lines).show(rows)
