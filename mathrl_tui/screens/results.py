"""Base of the result screens: results of a run in a table by key."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from rich.text import Text

from mathrl_tui.core import palette, side_panels
from mathrl_tui.core.run import RunSnapshot
from mathrl_tui.screens.table import NO_RUN, Table, TableScreen
from mathrl_tui.widgets.keyed_table import TableCell

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import HomeData

ResultRow = TypeVar("ResultRow")


class ResultsScreen(TableScreen, Generic[ResultRow]):
    """Screen with a table of results.

    Subclasses define `found`, `keyed` and `table`. EMPTY is the advice shown without results.
    """

    INTERVAL = 2.0
    EMPTY: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, ResultRow] = {}

    @abstractmethod
    def found(self, home_data: HomeData, run_id: str) -> Sequence[ResultRow]:
        """Return the run's results; called on the reader's thread."""

    @abstractmethod
    def keyed(self, found: Sequence[ResultRow], run: RunSnapshot) -> dict[str, ResultRow]:
        """Return the results in display order, each under a unique key."""

    @abstractmethod
    def table(self, run: RunSnapshot) -> Table:
        """Return the table of `rows`; a key without a result is a row of text."""

    @property
    def chosen(self) -> ResultRow | None:
        """Return the result under the cursor; None if that row has no result."""
        return self.rows.get(self.cursor)

    async def read(self) -> None:
        """Read the run's results and show the table."""
        run_id = await self.chosen_run()
        if not run_id:
            self.show_emptiness(NO_RUN)
            return
        run, found = await self.ask(lambda home_data: (home_data.run(run_id), self.found(home_data, run_id)))
        self.show_lines("#heading", [side_panels.heading(run, self.size.width, self.now)])
        self.rows = self.keyed(found, run)
        if self.rows:
            self.show_table(self.table(run))
        else:
            self.show_emptiness(self.EMPTY)


def axis_cells(titles: Sequence[str], others: int) -> tuple[TableCell, ...]:
    """Return a row with unit and axis of the rows below.

    It is padded by `others` empty cells.
    """
    return (*(Text(title, f"bold {palette.ACCENT}") for title in titles), *[Text("")] * others)
