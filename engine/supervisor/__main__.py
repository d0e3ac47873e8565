"""Entry point of a run's supervisor, started by engine/startup/launch.py.

python -m engine.supervisor RUN_PATH [READY_DESCRIPTOR]
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from engine.ipc.pidfile import AlreadyHeld, holder, lock_path
from engine.machine.gpus import visible_gpus, wanted
from engine.plan import needs_worker
from engine.supervisor.supervisor import Supervisor
from store.home import RunFolder
from store.journal import JournalBusy
from store.run_config import read_config


def main(arguments: list[str]) -> int:
    """Supervise a run; return the exit status of this process.

    `ready` is written to READY_DESCRIPTOR once the run is locked and its start is in the journal.
    Args:
        arguments: as engine/startup/launch.py gives them.
    """
    path = Path(arguments[0])
    folder = RunFolder(path.parent.parent, path.name)
    config = read_config(folder.config)
    profile = config.valid_profile
    numbers = wanted(profile.hardware, needs_worker(profile, config.plan))
    gpus = [gpu for gpu in visible_gpus() if gpu.index in numbers] if numbers else []
    try:
        supervisor = Supervisor(folder, gpus, config=config)
    except AlreadyHeld:
        other = holder(lock_path(folder))
        who = "" if other is None else f", its supervisor is process {other.pid}"
        print(
            f"run {folder.run_id}: is live already{who}; `mathrl-tui attach {folder.run_id}` shows it",
            file=sys.stderr,
        )
        return 1
    except (JournalBusy, OSError) as error:
        again = f"fix that, then try again with `mathrl-tui run --resume {folder.run_id}`"
        print(f"run {folder.run_id}: its supervisor cannot start: {error}; {again}", file=sys.stderr)
        return 1
    if len(arguments) > 1:
        ready = int(arguments[1])
        os.write(ready, b"ready")
        os.close(ready)
    return 0 if supervisor.run() == "done" else 1


def end(status: int) -> NoReturn:
    """Flush stdout and stderr, and exit at once.

    The interpreter's own exit would wait for database threads, also after a failed write to a full disk, and
    for children that are still alive after an error here. No other clean-up is needed.
    """
    if sys.exc_info()[0] is not None:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    status = 1
    try:
        status = main(sys.argv[1:])
    finally:
        end(status)
