"""`attach`: follows a run that somebody started."""

from __future__ import annotations

from mathrl_tui.commands.options import Home, Run
from mathrl_tui.commands.settled import settled_store

PAST_LINES = 20


def attach(home: Home, run: Run) -> None:
    """Follow a run's progress and log lines; Ctrl-C asks whether to stop the run or leave it."""
    from mathrl_tui.commands.follow import follow

    store = settled_store(home)
    run_id = store.resolve(run)
    past, here = store.events_to_here(run_id, PAST_LINES)
    follow(home, run_id, here, past)
