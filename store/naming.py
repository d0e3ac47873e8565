"""Which run a person means: its id, a name that one run has, or the beginning of one id.

`find_run` needs the run folders only, so it answers when the store is held or damaged.
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
    """No run, or more than one, answers to what the caller gave."""


def find_run(home: Path, text: str) -> str:
    """Return the id of the run in `home` that `text` names, from the run folders and journals alone.

    Raises: UnknownRun, which names what comes near.
    """
    if RUN_NAME.match(text) and RunFolder(home, text).config.is_file() and text not in removing(home):
        return text
    return match(text, names(home), home)


def match(text: str, known: Mapping[str, str], home: Path) -> str:
    """Return the id that `text` names among the runs `known` (id → name) of `home`. Raises: UnknownRun."""
    if not text:  # every id begins with it: a script's unset variable would reach the only run
        raise UnknownRun("no run is named: its name is empty; `mathrl-tui runs` lists them")
    if text in known:
        return text
    found = [run for run, name in known.items() if name == text] or [
        run for run in known if run.startswith(text)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownRun(f"{text}: {len(found)} runs answer to it; give one of {', '.join(found[-5:])}")
    near = difflib.get_close_matches(text, [*known, *known.values()], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "`mathrl-tui runs` lists them"
    raise UnknownRun(f"{text}: no such run in {home}; {hint}")


def names(home: Path) -> dict[str, str]:
    """Return the names of the runs in `home` by id, oldest folder first; of a damaged run.json the id."""
    found = {run: _name(RunFolder(home, run)) for run in run_ids(home)}
    return found | {run: run for run in journaled(home) if run not in found}


def journaled(home: Path) -> list[str]:
    """Return the ids of the runs that have a journal, in order, without those that are being removed."""
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
