"""Actions on the filter, and on marks, pins, tags and notes of runs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from functools import partial

from textual import on

from mathrl_tui.core import workspace as changes
from mathrl_tui.screens.controls import Controls
from mathrl_tui.widgets.keyed_table import KeyedTable
from mathrl_tui.widgets.text_entry import TextEntry
from mathrl_tui.workspace_file import Change

FILTER, TAGS, NOTE = "filter", "tags", "note"


class RunMarks(Controls):
    """Actions of a screen with a list of runs, an TextEntry and a filter."""

    # The entry would take the keys.
    AUTO_FOCUS = "KeyedTable"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave Enter, and the keys that open a field, to the open field."""
        return not (isinstance(self.focused, TextEntry) and action in ("open", "filter", "tags", "note"))

    @abstractmethod
    def show_runs(self) -> None:
        """Show the list with the current marks, tags and filter."""

    @property
    @abstractmethod
    def filter_text(self) -> str:
        """Return the current filter."""

    @abstractmethod
    def set_filter(self, words: str) -> None:
        """Show only the runs that match `words`."""

    def change(self, change: Change) -> None:
        """Change marks, tags or notes, and show them."""
        self.console.change_workspace(change)
        self.show_runs()

    def action_mark(self) -> None:
        """Mark or unmark the run under the cursor."""
        self._change_target(changes.with_mark)
        self.read_soon()

    def action_unmark(self) -> None:
        """Remove all marks."""
        self.change(changes.without_marks)
        self.read_soon()

    def action_pin(self) -> None:
        """Pin the run under the cursor to the top, or release it."""
        self._change_target(changes.with_pin)

    def action_hide(self) -> None:
        """Hide the run under the cursor, or show it again."""
        self._change_target(changes.with_hidden)

    def action_filter(self) -> None:
        """Open the field for the filter."""
        self.query_one(TextEntry).open(FILTER, "filter: state:failed gsm8k>0.7 -tag:old", self.filter_text)

    def action_tags(self) -> None:
        """Open the field for the tags of the run under the cursor."""
        if run_id := self.target:
            tags = " ".join(self.console.workspace.tags.get(run_id, ()))
            self.query_one(TextEntry).open(TAGS, f"tags of {run_id}", tags, about=run_id)

    def action_note(self) -> None:
        """Open the field for the note of the run under the cursor."""
        if run_id := self.target:
            note = self.console.workspace.notes.get(run_id, "")
            self.query_one(TextEntry).open(NOTE, f"note on {run_id}", note, about=run_id)

    @on(TextEntry.Edited)
    def _take_edited(self, event: TextEntry.Edited) -> None:
        if event.purpose == FILTER:
            self.set_filter(event.value)

    @on(TextEntry.Closed)
    def _take_closed(self, event: TextEntry.Closed) -> None:
        """Keep the text, or after Escape (`kept` is False) the one before."""
        self.set_focus(self.query_one(KeyedTable))
        words = event.value
        if event.purpose == FILTER:
            self.set_filter(words)
            self.change(lambda workspace: replace(workspace, filter=words))
        elif event.kept:
            change = changes.with_tags if event.purpose == TAGS else changes.with_note
            self.change(lambda workspace: change(workspace, event.about, words))

    def _change_target(self, change: changes.ChangeOfRun) -> None:
        if run_id := self.target:
            self.change(partial(change, run_id=run_id))
