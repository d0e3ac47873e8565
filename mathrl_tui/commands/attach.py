"""`attach`: follow a run, from the end of its journal."""

from __future__ import annotations

from typing import Annotated

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.options import Home, Run

PAST_LINES = 20


def attach(
    home: Home, run: Run, as_json: Annotated[bool, typer.Option("--json", hidden=True)] = False
) -> None:
    """Follow a run's progress and log lines.

    Ctrl-C asks whether to stop the run or leave it.
    It prints text for a person only: `status RUN --json` gives the state as JSON, `sql --json` the records.
    """
    if as_json:
        raise WrongInput(
            f"attach --json: it prints text for a person; `mathrl-tui status {run} --json` gives the state as JSON, "
            "and `mathrl-tui sql QUERY --json` the records"
        )
    from mathrl_tui.commands.follow import follow
    from store.home import RunFolder
    from store.naming import find_run
    from store.records import Event
    from store.tail import read_tail

    run_id = find_run(home, run)
    tail = read_tail(RunFolder(home, run_id).journal)
    past = [record for record in tail.records if isinstance(record, Event)]
    follow(home, run_id, tail.end, past[-PAST_LINES:])
