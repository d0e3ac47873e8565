"""Find the run that a user means: id, name, or start of an id.

`find_run` needs only the run folders, so it works when the store is held or damaged.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

from profiles.errors import UserError
from store.home import RUN_NAME, RunFolder, removing, run_ids
from store.run_config import read_config


class UnknownRun(UserError, LookupError):
    """No run, or more than one, matches the given text."""


def find_run(home: Path, text: str) -> str:
    """Return the id of the run in `home` that `text` identifies.

    It uses run folders and journals only.

    Raises: UnknownRun, with similar runs in the message.
    """
    if RUN_NAME.match(text) and RunFolder(home, text).config.is_file() and text not in removing(home):
        return text
    return match(text, names(home), home)


def match(text: str, known: Mapping[str, str], home: Path) -> str:
    """Return the id that `text` identifies among the runs `known`.

    Args:
        known: id → name.
        home: home directory, for the message.
    Raises: UnknownRun if none or several match.
    """
    # Every id starts with an empty text, so a script's unset variable would match the only run.
    if not text:
        raise UnknownRun("the name of a run is empty; `mathrl-tui runs` lists all runs")
    if text in known:
        return text
    found = [run for run, name in known.items() if name == text] or [
        run for run in known if run.startswith(text)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownRun(f"{text}: {len(found)} runs match; give one of {', '.join(found[-5:])}")
    near = difflib.get_close_matches(text, [*known, *known.values()], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "`mathrl-tui runs` lists them"
    raise UnknownRun(f"{text}: no such run in {home}; {hint}")


def names(home: Path) -> dict[str, str]:
    """Return id → name for the runs in `home`, oldest folder first.

    Runs that have a journal but no readable run.json come last. Their name is their id.
    """
    found = {run: _name(RunFolder(home, run)) for run in run_ids(home)}
    return found | {run: run for run in journaled(home) if run not in found}


def journaled(home: Path) -> list[str]:
    """Return the ids of runs with a journal, sorted.

    Runs that are being removed are left out.
    """
    gone = removing(home)
    try:
        found = (entry.name for entry in os.scandir(home / "journal") if entry.is_dir())
        return sorted(name for name in found if name not in gone)
    except FileNotFoundError:
        return []


def _name(folder: RunFolder) -> str:
    try:
        return read_config(folder.config).name or folder.run_id
    except (OSError, ValueError):
        return folder.run_id
