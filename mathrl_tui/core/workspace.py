"""What a user has set for the runs of a home: marks, looks, tags, notes.

workspace.json ─▶ parsed ─▶ Workspace ─▶ with_mark, with_tags, … ─▶ text ─▶ workspace.json

A workspace is immutable. Each function returns a changed copy, so a change can be repeated on the newest file
(mathrl_tui/workspace_file.py). Runs that no longer exist may stay in it; screens show only runs that they list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mathrl_tui.core import palette
from mathrl_tui.core.palette import Look
from store.plain_json import parse_object

# (workspace, run_id) → changed workspace.
ChangeOfRun = Callable[..., "Workspace"]

VERSION = 1
# A longer note would not fit the line that shows it.
LONGEST_NOTE = 500
LONGEST_TAG = 40


@dataclass(frozen=True, slots=True)
class Workspace:
    """Settings of a user for the runs of a home.

    `marked` is in the order of marking. `places` gives each run that was ever marked its look
    (`palette.run_look`). `filter` and `sort` are those of the list of runs.
    """

    marked: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    filter: str = ""
    sort: str = ""

    def look(self, run_id: str) -> Look | None:
        """Return mark and colour of a run; None if it was never marked."""
        place = self.places.get(run_id)
        return None if place is None else palette.run_look(place)


def with_mark(workspace: Workspace, run_id: str) -> Workspace:
    """Mark the run, or remove its mark.

    A run keeps its look for ever, also while it is not marked.
    """
    if run_id in workspace.marked:
        return replace(workspace, marked=_without(workspace.marked, run_id))
    places = workspace.places
    if run_id not in places:
        places = {**places, run_id: _free_place(workspace)}
    return replace(workspace, marked=(*workspace.marked, run_id), places=places)


def without_marks(workspace: Workspace) -> Workspace:
    """Remove all marks."""
    return replace(workspace, marked=())


def with_pin(workspace: Workspace, run_id: str) -> Workspace:
    """Pin the run to the top of the list, or release it."""
    return replace(workspace, pinned=_toggled(workspace.pinned, run_id))


def with_hidden(workspace: Workspace, run_id: str) -> Workspace:
    """Hide the run, or show it again. A hidden run has no mark."""
    hidden = _toggled(workspace.hidden, run_id)
    marked = _without(workspace.marked, run_id) if run_id in hidden else workspace.marked
    return replace(workspace, hidden=hidden, marked=marked)


def with_tags(workspace: Workspace, run_id: str, words: str) -> Workspace:
    """Replace the tags of the run by the words of `words`.

    Commas and white space separate them. Each is cut to LONGEST_TAG characters.
    """
    found = dict.fromkeys(word[:LONGEST_TAG] for word in words.replace(",", " ").split())
    return replace(workspace, tags=_put(workspace.tags, run_id, tuple(found)))


def with_note(workspace: Workspace, run_id: str, note: str) -> Workspace:
    """Replace the note of the run; an empty note removes it.

    The note becomes one line of at most LONGEST_NOTE characters.
    """
    line = " ".join(note.split())[:LONGEST_NOTE]
    return replace(workspace, notes=_put(workspace.notes, run_id, line))


def dumped(workspace: Workspace) -> str:
    """Return the content of the file."""
    table: dict[str, Any] = {
        "version": VERSION,
        "marked": list(workspace.marked),
        "pinned": list(workspace.pinned),
        "hidden": list(workspace.hidden),
        "looks": dict(workspace.places),
        "tags": {run: list(tags) for run, tags in workspace.tags.items()},
        "notes": dict(workspace.notes),
        "filter": workspace.filter,
        "sort": workspace.sort,
    }
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def parsed(content: str | bytes) -> Workspace:
    """Return the workspace in a file's content.

    Fields that are missing are empty, fields of later versions are ignored.

    Raises: ValueError with the reason if a field has the wrong type.
    """
    table = parse_object(content)
    return Workspace(
        marked=_texts(table, "marked"),
        pinned=_texts(table, "pinned"),
        hidden=_texts(table, "hidden"),
        places={run: _place(place, f"looks.{run}") for run, place in _table(table, "looks").items()},
        tags={run: _texts(_table(table, "tags"), run) for run in _table(table, "tags")},
        notes={run: _text(_table(table, "notes"), run) for run in _table(table, "notes")},
        filter=_text(table, "filter"),
        sort=_text(table, "sort"),
    )


def _free_place(workspace: Workspace) -> int:
    """Return the first place without a run.

    If possible, its colour differs from those of all marked runs.
    """
    taken = set(workspace.places.values())
    marked = {palette.run_look(workspace.places[run]).colour for run in workspace.marked}
    count = len(palette.RUN_COLOURS)
    free = [place for place in range(len(taken) + 2 * count) if place not in taken]
    return next((place for place in free if palette.run_look(place).colour not in marked), free[0])


def _toggled(runs: tuple[str, ...], run_id: str) -> tuple[str, ...]:
    return _without(runs, run_id) if run_id in runs else (*runs, run_id)


def _without(runs: Iterable[str], run_id: str) -> tuple[str, ...]:
    return tuple(run for run in runs if run != run_id)


def _put(table: Mapping[str, Any], run_id: str, value: Any) -> dict[str, Any]:
    """Return `table` with a value for the run; an empty value is left out."""
    return {run: old for run, old in table.items() if run != run_id} | ({run_id: value} if value else {})


def _table(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = table.get(name, {})
    if not isinstance(found, dict):
        raise ValueError(f"{name}: expected a table")
    return found


def _texts(table: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = table.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{name}: expected a list of texts")
    return tuple(dict.fromkeys(found))


def _text(table: Mapping[str, Any], name: str) -> str:
    found = table.get(name, "")
    if not isinstance(found, str):
        raise ValueError(f"{name}: expected a text")
    return found


def _place(found: Any, name: str) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise ValueError(f"{name}: expected a whole number")
    return found
