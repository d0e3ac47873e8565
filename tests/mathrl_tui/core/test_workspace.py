"""Marks, looks, pins, hidden runs, tags and notes: pure changes, and their file."""

from __future__ import annotations

import json
import multiprocessing
from functools import partial, reduce
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathrl_tui import workspace_file
from mathrl_tui.core import palette, workspace
from mathrl_tui.core.workspace import Workspace, dumped, parsed, with_mark
from mathrl_tui.workspace_file import WorkspaceFault

RUNS = st.sampled_from([f"demo-s{seed}" for seed in range(12)])


@given(st.lists(RUNS, max_size=60))
def test_a_run_keeps_its_look_whatever_is_marked_later(marked: list[str]) -> None:
    looks: dict[str, palette.Look | None] = {}
    found = Workspace()
    for run in marked:
        found = with_mark(found, run)
        assert looks.setdefault(run, found.look(run)) == found.look(run)
    assert set(found.marked) == {run for run in marked if marked.count(run) % 2}
    assert len({found.look(run) for run in looks}) == len(looks)


def test_eight_marked_runs_have_eight_colours() -> None:
    found = reduce(with_mark, [f"run-{place}" for place in range(8)], Workspace())
    assert len({found.look(run).colour for run in found.marked if found.look(run)}) == 8  # type: ignore[union-attr]


def test_a_new_mark_avoids_the_colours_of_the_marked_runs() -> None:
    found = reduce(with_mark, [f"old-{place}" for place in range(8)], Workspace())
    found = reduce(with_mark, [f"old-{place}" for place in range(1, 8)], found)
    found = with_mark(found, "new")
    first, second = (found.look(run) for run in found.marked)
    assert first is not None and second is not None and first.colour != second.colour


@given(
    st.lists(RUNS, max_size=8, unique=True),
    st.dictionaries(RUNS, st.text(max_size=30)),
    st.dictionaries(RUNS, st.text(max_size=30)),
)
def test_the_file_gives_back_what_was_written(
    marked: list[str], tags: dict[str, str], notes: dict[str, str]
) -> None:
    found = reduce(with_mark, marked, Workspace(filter="state:done", sort="-run"))
    for run, words in tags.items():
        found = workspace.with_tags(found, run, words)
    for run, words in notes.items():
        found = workspace.with_note(found, run, words)
    assert parsed(dumped(found)) == found


def test_tags_are_words_and_a_note_is_a_line() -> None:
    found = workspace.with_tags(Workspace(), "r", "paper, good  paper")
    found = workspace.with_note(found, "r", " two\nlines ")
    assert (found.tags["r"], found.notes["r"]) == (("paper", "good"), "two lines")
    emptied = workspace.with_note(workspace.with_tags(found, "r", " "), "r", "")
    assert emptied == Workspace()


def test_a_hidden_run_is_not_marked() -> None:
    found = workspace.with_hidden(with_mark(Workspace(), "r"), "r")
    assert (found.hidden, found.marked) == (("r",), ())
    assert workspace.with_hidden(found, "r").hidden == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting value"),
        ("[]", "not a JSON object"),
        ('{"marked": "a"}', "marked: expected a list of texts"),
        ('{"tags": {"a": 1}}', "a: expected a list of texts"),
        ('{"notes": []}', "notes: expected a table"),
        ('{"looks": {"a": -1}}', "looks.a: expected a whole number"),
        ('{"sort": 3}', "sort: expected a text"),
    ],
)
def test_a_damaged_file_is_named_and_kept_aside(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / workspace_file.NAME
    path.write_text(content)
    with pytest.raises(WorkspaceFault, match=reason):
        workspace_file.read(tmp_path)
    after, aside = workspace_file.changed(tmp_path, partial(with_mark, run_id="r"))
    assert after.marked == ("r",) and aside is not None and aside.read_text() == content
    assert workspace_file.read(tmp_path) == after
    assert path.stat().st_mode & 0o077 == 0


def test_fields_of_later_versions_do_not_hide_the_rest() -> None:
    assert parsed(json.dumps({"version": 9, "marked": ["r"], "new": {}})).marked == ("r",)


def test_a_change_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    workspace_file.changed(tmp_path, workspace.without_marks)
    assert not (tmp_path / workspace_file.NAME).exists()


def _mark(home: Path, runs: list[str]) -> None:
    for run in runs:
        workspace_file.changed(home, partial(with_mark, run_id=run))


def test_two_consoles_lose_no_mark(tmp_path: Path) -> None:
    parts = [[f"{name}-{place}" for place in range(20)] for name in "ab"]
    processes = [
        multiprocessing.get_context("fork").Process(target=_mark, args=(tmp_path, part)) for part in parts
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = workspace_file.read(tmp_path)
    assert set(found.marked) == {run for part in parts for run in part}
    assert len(set(found.places.values())) == 40
