"""Where everything lies: the home folder (`$MATHRL_HOME`, else `./artifacts`) and the run folders in it.

HOME/store.duckdb, store.lock, store.gate   the database and its arbiters
HOME/journal/RUN/N.j                        what the run's supervisor acknowledged
HOME/cache/STAGE/HASH/                      outputs of data, traces and preprocess, by content
HOME/runs/RUN/                              one run: config, logs, socket, checkpoints, rollouts
HOME/removing-RUN/, trash-RUN/              a run that is being removed (store/removal.py)

Folders of the home have mode 0700 and files 0600 (store/private.py).
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from store.env_file import setting
from store.private import make_folder

REMOVING, TRASH = "removing-", "trash-"  # and a run's id: its rows are still in the store; they are not
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*\Z")


def default_home() -> Path:
    """Return $MATHRL_HOME, from the environment or from `.env` in the working directory, else ./artifacts."""
    return Path(setting("MATHRL_HOME") or "artifacts").expanduser().absolute()


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of one run."""

    home: Path
    run_id: str

    @property
    def path(self) -> Path:
        return self.home / "runs" / self.run_id

    @property
    def config(self) -> Path:
        """run.json: profile, plan, seed, versions, hardware; written once."""
        return self.path / "run.json"

    @property
    def socket(self) -> Path:
        """The supervisor's Unix socket; its presence alone does not mean that a supervisor lives."""
        return self.path / "control.sock"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def journal(self) -> Path:
        return self.home / "journal" / self.run_id

    @property
    def rollouts(self) -> Path:
        return self.path / "rollouts"

    def checkpoints(self, arm: str) -> Path:
        """The folder of an arm's checkpoints, `step_000050` and so on."""
        return self.path / "checkpoints" / arm


def create_run(home: Path, name: str, seed: int) -> RunFolder:
    """Makes a run folder under a new id, `NAME-s0-20260131-235959`; a taken id gets the next free suffix."""
    stem = f"{name}-s{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    for attempt in range(1, 1000):
        folder = RunFolder(home, stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            make_folder(folder.path, exist_ok=False)
        except FileExistsError:
            continue
        make_folder(folder.logs)
        return folder
    raise FileExistsError(f"{home / 'runs' / stem}: a thousand runs of this name in one second")


def run_ids(home: Path) -> list[str]:
    """Return the ids of the runs in `home`, oldest folder first, without those that are being removed."""
    gone = removing(home)
    folders = (path for path in (home / "runs").glob("*/run.json") if path.parent.name not in gone)
    return [path.parent.name for path in sorted(folders, key=lambda path: path.stat().st_mtime)]


def removing(home: Path) -> list[str]:
    """Return the ids of the runs whose removal has begun: nothing shows them any more."""
    return [path.name.removeprefix(REMOVING) for path in _folders(home, REMOVING)]


def trash(home: Path) -> list[Path]:
    """Return the folders of removed runs that are still to be deleted."""
    return _folders(home, TRASH)


def _folders(home: Path, prefix: str) -> list[Path]:
    return sorted(path for path in home.glob(f"{prefix}*") if path.is_dir() and not path.is_symlink())
