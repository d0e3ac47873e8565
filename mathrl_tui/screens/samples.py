"""Completions with question, gold answer and verdict.

They can be filtered, searched, and compared with another arm's.
"""

from __future__ import annotations

from dataclasses import replace

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.widgets import DataTable, Input, Static

from mathrl_tui import actions
from mathrl_tui.core import answers, palette, text
from mathrl_tui.core import completions as reading
from mathrl_tui.core.completions import FILTERS, MOST_LISTED, WHILE_TRAINING, CompletionChoice, CompletionPair
from mathrl_tui.core.home_data import HomeData
from mathrl_tui.screens.searching import SearchField, Searching
from mathrl_tui.widgets.keyed_table import KeyedTable, TableCell
from mathrl_tui.widgets.lines import Lines
from store.records import Example

_EMPTY = """[b]Nothing to read: no completions are recorded here.[/b]

Evaluation keeps every completion, and training keeps a few at each step and validation. Start a stage on the run's
screen ([b]2[/b]), or choose another run ([b]1[/b])."""
_NONE = "[b]No completion passes.[/b]\n\nPress [b]f[/b] for another filter, or [b]/[/b] to change the search."


class SamplesScreen(Searching):
    """Completions of the run's arms."""

    NAME = actions.SAMPLES
    INTERVAL = 3.0
    BINDINGS = actions.bindings(actions.SAMPLES)

    def __init__(self) -> None:
        super().__init__()
        self._run_id = ""
        self._tasks: dict[str, list[str]] = {}
        self._pairs: dict[str, CompletionPair] = {}
        # What the detail shows.
        self._read: object = None

    def body(self) -> ComposeResult:
        """Yield the list of completions, the selected one and the search field."""
        yield Lines(id="heading")
        with Container(id="reading"):
            yield KeyedTable(id="list")
            with VerticalScroll(id="detail"):
                yield Static("", id="words", markup=False)
        yield Static("", id="empty")
        yield SearchField("search text; Enter keeps it, Esc clears it")

    async def read(self) -> None:
        """Read the completions of the current choice and show them."""
        run_id = await self.chosen_run()
        self._run_id = run_id
        self._tasks = await self.ask(lambda home_data: home_data.tasks(run_id)) if run_id else {}
        if not self._tasks:
            self._show_emptiness(_EMPTY)
            return
        choice = self.console.choice = self.console.choice.nearest(self._tasks)
        mine, theirs = await self.ask(lambda home_data: _both(home_data, run_id, choice))
        found = reading.pairs(mine, theirs, choice)
        self._pairs = {pair.key: pair for pair in found[:MOST_LISTED]}
        self._show_heading(len(found), len(mine))
        self._show_list()

    def _show_heading(self, found: int, count: int) -> None:
        against = f" against {self.console.choice.other}" if self.console.choice.other else ""
        cut = f", the first {MOST_LISTED} listed" if found > MOST_LISTED else ""
        search = f" with “{self.console.choice.search}”" if self.console.choice.search else ""
        row = [
            (f" {self.console.choice.arm}", f"bold {palette.INK}"),
            (against, palette.INK),
            (f"  {self.console.choice.task}  ", palette.ACCENT),
            (
                f"{self.console.choice.shown}{search}: ",
                f"bold {palette.WARN}" if self.console.choice.shown != "all" or search else palette.DIM,
            ),
            (f"{text.count(found)} of {text.count(count)}{cut}", palette.DIM),
        ]
        self.show_lines("#heading", [row])

    def _show_list(self) -> None:
        table = self.query_one(KeyedTable)
        while_training = self.console.choice.task in WHILE_TRAINING
        titles = [
            *(["step"] if while_training else []),
            "question",
            self.console.choice.arm,
            *([self.console.choice.other] if self.console.choice.other else []),
            "answer",
            "gold",
        ]
        table.show(
            titles,
            {
                key: _cells(pair, bool(self.console.choice.other), while_training)
                for key, pair in self._pairs.items()
            },
        )
        if not self._pairs:
            self._show_emptiness(_NONE)
            return
        self.query_one("#empty").display = False
        self.query_one("#reading").display = True
        if not self.focused:
            table.focus()
        self._show_words()

    def _show_emptiness(self, words: str) -> None:
        self.query_one("#empty", Static).update(text.flowing(words))
        self.query_one("#empty").display = True
        self.query_one("#reading").display = False

    @on(DataTable.RowHighlighted)
    def _show_words(self) -> None:
        """Show the full completion under the cursor."""
        pair = self._pairs.get(self.query_one(KeyedTable).chosen or "")
        read = (self._run_id, self.console.choice, pair)
        if pair is None or read == self._read:
            return
        self._read = read
        self.query_one("#words", Static).update(Text.assemble(*reading.detail(pair, self.console.choice)))
        self.query_one("#detail").scroll_home(animate=False)

    def action_next_task(self) -> None:
        """Select the arm's next task."""
        tasks = self._tasks.get(self.console.choice.arm, [])
        self._choose(task=reading.following(tasks, self.console.choice.task))

    def action_next_arm(self) -> None:
        """Select the next arm, on the same task if it has it."""
        self._choose(arm=reading.following(list(self._tasks), self.console.choice.arm))

    def action_next_other(self) -> None:
        """Select the next arm to compare with, or none."""
        others = ["", *self.console.choice.others(self._tasks)]
        self._choose(other=reading.following(others, self.console.choice.other))

    def action_next_filter(self) -> None:
        """Select the next filter.

        A filter that compares arms also selects another arm if none is selected.
        """
        self._choose(shown=reading.following(list(FILTERS), self.console.choice.shown))

    def _choose(self, **changes: str) -> None:
        self.console.choice = replace(self.console.choice, **changes)
        self.read_soon()

    def searched(self) -> KeyedTable:
        """Return the table."""
        return self.query_one(KeyedTable)

    @on(Input.Changed)
    def _searched(self, event: Input.Changed) -> None:
        self._choose(search=event.value.strip())

    def action_copy(self) -> None:
        """Copy the visible completion."""
        pair = self._pairs.get(self.query_one(KeyedTable).chosen or "")
        if pair is not None:
            self.console.copy(reading.plain(pair, self.console.choice), pair.mine.ex_id)


def _both(home_data: HomeData, run_id: str, choice: CompletionChoice) -> tuple[list[Example], list[Example]]:
    """Return the completions of the arm, and those of the other arm."""
    theirs = home_data.completions(run_id, choice.other, choice.task) if choice.other else []
    return home_data.completions(run_id, choice.arm, choice.task), theirs


def _cells(pair: CompletionPair, compared: bool, while_training: bool) -> tuple[TableCell, ...]:
    words, colour = reading.outcome(pair.mine)
    cells: list[TableCell] = [Text(f"{pair.mine.step:>4}", palette.DIM)] if while_training else []
    cells += [Text(text.clip(pair.mine.ex_id, 16), palette.INK), Text(words, colour)]
    if compared:
        theirs, their_colour = reading.outcome(pair.theirs) if pair.theirs else (text.NOTHING, palette.DIM)
        cells.append(Text(theirs, their_colour))
    return (
        *cells,
        Text(text.clip(answers.given(pair.mine), 14), palette.INK),
        Text(text.clip(pair.mine.gold, 14), palette.DIM),
    )
