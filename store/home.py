"""Paths of a home (`$MATHRL_HOME`, else `./artifacts`) and its runs.

HOME/store.duckdb, store.lock, store.gate   the database and its lock files
HOME/journal/RUN/N.j                        records that the run's supervisor acknowledged
HOME/workspace.json, workspace.lock          marks, tags and notes of runs, which the console keeps
HOME/cache/STAGE/HASH/                      outputs of data, traces and preprocess, by content
HOME/runs/RUN/                              one run: config, logs, socket, checkpoints, rollouts
HOME/removing-RUN/, trash-RUN/              a run that is being removed (store/removal.py)
HOME/removed/RUN                            empty: a run that was removed, so that an older store does not bring it back

Folders of the home have mode 0700 and files 0600 (store/private.py).
"""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from profiles.errors import UserError
from store.env_file import setting
from store.private import make_folder

REMOVED = "removed"
REMOVING, TRASH = "removing-", "trash-"  # and a run's id: its rows are still in the store; they are not
_HISTORY = ("runs", "journal", "store.duckdb")
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")


VARIABLE = "MATHRL_HOME"
_CHOOSE = f"choose another folder with --home or {VARIABLE}"


class HomeFault(UserError, RuntimeError):
    """The home cannot be used.

    The message gives the reason and what to do.
    """


def default_home() -> Path:
    """Return $MATHRL_HOME, else ./artifacts.

    $MATHRL_HOME comes from the environment or from `.env` in the working directory.

    Raises: HomeFault if it cannot be a home; EnvFileFault if `.env` cannot be read.
    """
    if not os.environ.get(VARIABLE, "unset").strip():
        raise HomeFault(
            f"{VARIABLE}: is set, but empty; give a folder, or unset it (the home is then ./artifacts)"
        )
    return home_at(setting(VARIABLE) or "artifacts")


def home_at(name: str) -> Path:
    """Return the absolute path of the home that a user named.

    Raises: HomeFault if it is not a folder, cannot be entered, or is missing and cannot be created.
    """
    if not name.strip():
        raise HomeFault("--home: is empty; give a folder")
    try:
        home = Path(name).expanduser().absolute()
    except RuntimeError:
        raise HomeFault(f"home {name}: no such user; {_CHOOSE}") from None
    # A missing folder is created in the nearest one that exists.
    for place in (home, *home.parents):
        try:
            status = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            if place.is_symlink():
                raise HomeFault(
                    f"home {home}: {place} is a link to {place.readlink()}, which does not exist; create that, or "
                    f"{_CHOOSE}"
                ) from None
            continue
        except (OSError, ValueError) as error:
            raise HomeFault(f"home {home}: {getattr(error, 'strerror', None) or error}; {_CHOOSE}") from None
        break
    if not stat.S_ISDIR(status.st_mode):
        raise HomeFault(f"home {home}: {place} is not a folder; {_CHOOSE}")
    _check_rights(home, place)
    return home


def _check_rights(home: Path, place: Path) -> None:
    """Raise HomeFault if `home` can neither be read as a home nor written.

    `place` is the nearest directory that exists.
    """
    if not os.access(place, os.R_OK | os.X_OK):
        raise HomeFault(f"home {home}: {place} cannot be read by this user; change its mode, or {_CHOOSE}")
    # History stays readable on a read-only disk.
    if os.access(place, os.W_OK) or (place == home and any((home / name).exists() for name in _HISTORY)):
        return
    words = "is read-only" if place == home else f"cannot be created: {place} is read-only"
    raise HomeFault(f"home {home}: {words}; change that, or {_CHOOSE}")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of one run."""

    home: Path
    run_id: str

    @property
    def path(self) -> Path:
        """Return the run's folder, HOME/runs/ID."""
        return self.home / "runs" / self.run_id

    @property
    def config(self) -> Path:
        """Return the path of run.json, which is written once.

        It holds profile, plan, seed, versions and hardware.
        """
        return self.path / "run.json"

    @property
    def socket(self) -> Path:
        """Return the path of the supervisor's Unix socket.

        The socket's presence alone does not mean that a supervisor is running.
        """
        return self.path / "control.sock"

    @property
    def logs(self) -> Path:
        """Return the folder with the log files of the run's processes."""
        return self.path / "logs"

    @property
    def journal(self) -> Path:
        """Return the folder of the run's journal, HOME/journal/ID."""
        return self.home / "journal" / self.run_id

    @property
    def rollouts(self) -> Path:
        """Return the folder of the run's recorded rollouts."""
        return self.path / "rollouts"

    def checkpoints(self, arm: str) -> Path:
        """Return the directory of an arm's checkpoints (`step_000050`, …)."""
        return self.path / "checkpoints" / arm


def create_run(home: Path, name: str, seed: int) -> RunFolder:
    """Create a run folder under a new id: `NAME-s0-20260131-235959`.

    If the id is taken, the next free suffix is added.

    Raises: OSError if the folder cannot be created.
    """
    stem = f"{name}-s{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    for attempt in range(1, 1000):
        folder = RunFolder(home, stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            make_folder(folder.path, exist_ok=False)
        except FileExistsError:
            continue
        make_folder(folder.logs)
        return folder
    raise FileExistsError(f"{home / 'runs' / stem}: all ids of this name and second are taken; try again")


def run_ids(home: Path) -> list[str]:
    """Return the ids of the runs in `home`, oldest folder first.

    Runs that are being removed are left out.
    """
    gone = removing(home)
    folders = (path for path in (home / "runs").glob("*/run.json") if path.parent.name not in gone)
    return [path.parent.name for path in sorted(folders, key=lambda path: path.stat().st_mtime)]


def removing(home: Path) -> list[str]:
    """Return the ids of runs with a removal in progress.

    Such runs are not shown any more.
    """
    return [path.name.removeprefix(REMOVING) for path in _folders(home, REMOVING)]


def removed(home: Path) -> set[str]:
    """Return the ids of removed runs without a folder or a journal."""
    return {run_id for run_id in _recorded(home) if not is_present(home, run_id)}


def returned(home: Path) -> set[str]:
    """Return the ids of removed runs that a backup has brought back.

    They have a folder or a journal again.
    """
    return {run_id for run_id in _recorded(home) if is_present(home, run_id)}


def is_present(home: Path, run_id: str) -> bool:
    """Return True if the run has a folder or a journal."""
    run = RunFolder(home, run_id)
    return os.path.lexists(run.path) or os.path.lexists(run.journal)


def _recorded(home: Path) -> list[str]:
    try:
        return [path.name for path in (home / REMOVED).iterdir()]
    except FileNotFoundError:
        return []


def trash(home: Path) -> list[Path]:
    """Return the folders of removed runs that must still be deleted."""
    return _folders(home, TRASH)


def _folders(home: Path, prefix: str) -> list[Path]:
    return sorted(path for path in home.glob(f"{prefix}*") if path.is_dir() and not path.is_symlink())
