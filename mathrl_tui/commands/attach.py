"""`attach`: follows a run that somebody started."""

from __future__ import annotations

from mathrl_tui.commands.options import Home, Run

PAST_LINES = 20


def attach(home: Home, run: Run) -> None:
    """Follow a run's progress and log lines; Ctrl-C asks whether to stop the run or leave it."""
    from mathrl_tui.commands.follow import follow
    from store.home import RunFolder
    from store.live import end_of
    from store.query import Store

    store = Store(home)
    run_id = store.resolve(run)
    store.settle()
    now = end_of(RunFolder(home, run_id).journal)
    follow(home, run_id, now, store.events(run_id, limit=PAST_LINES))
