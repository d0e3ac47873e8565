"""`python -m engine.supervisor RUN_PATH [READY_DESCRIPTOR]`: the supervisor of one run, started by engine/launch.py."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from engine.gpus import visible_gpus, wanted
from engine.plan import Step, needs_worker
from engine.processes.pidfile import Held, holder, lock_path
from engine.supervisor.supervisor import Supervisor
from profiles import Profile
from store.home import RunFolder
from store.journal import JournalBusy


def main(arguments: list[str]) -> int:
    """Supervises the run. A word is written to READY_DESCRIPTOR once the run is held and its start is journaled."""
    path = Path(arguments[0])
    folder = RunFolder(path.parent.parent, path.name)
    config = json.loads(folder.config.read_text(encoding="utf-8"))
    profile = Profile.model_validate(config["profile"])
    plan = [Step(entry["stage"], entry["arm"]) for entry in config["plan"]]
    numbers = wanted(profile.hardware, needs_worker(profile, plan))
    gpus = [gpu for gpu in visible_gpus() if gpu.index in numbers] if numbers else []
    try:
        supervisor = Supervisor(folder, gpus)
    except Held:
        other = holder(lock_path(folder))
        who = "" if other is None else f", its supervisor is process {other.pid}"
        print(
            f"run {folder.run_id}: is live already{who}; `mathrl-tui attach {folder.run_id}` follows it",
            file=sys.stderr,
        )
        return 1
    except (JournalBusy, OSError) as error:
        again = f"put that right, then `mathrl-tui run --resume {folder.run_id}`"
        print(f"run {folder.run_id}: cannot be supervised: {error}; {again}", file=sys.stderr)
        return 1
    if len(arguments) > 1:
        ready = int(arguments[1])
        os.write(ready, b"ready")
        os.close(ready)
    return 0 if supervisor.run() == "done" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
