"""`doctor`: checks of this machine, each with a remedy."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mathrl_tui.commands.errors import CommandFailed, WrongInput
from mathrl_tui.commands.options import AsJson, Home
from mathrl_tui.commands.printing import print_json


def doctor(
    home: Home,
    acknowledge: Annotated[
        bool,
        typer.Option(
            "--acknowledge",
            help="hide the present damage of journals from all reports but `doctor --all`; damaged bytes are kept",
        ),
    ] = False,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="also list damage that was acknowledged, or whose rows are journaled again"
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check GPUs, driver, shared memory, disk, caches, keys and versions.

    The exit status is 1 if a check fails.
    """
    if acknowledge:
        if every or as_json:
            raise WrongInput("--acknowledge only hides damage: leave --all and --json out")
        _acknowledge(home)
        return
    from engine.startup.doctor import checks

    found = []
    for check in checks(home, every=every):
        found.append(check)
        if not as_json:
            print(f"{check.status:<5} {check.name}: {check.detail}", flush=True)
            if check.remedy:
                print(f"      → {check.remedy}")
    if as_json:
        print_json({"checks": [asdict(check) for check in found]})
    if any(check.status == "fail" for check in found):
        raise typer.Exit(1)


def _acknowledge(home: Path) -> None:
    """Acknowledge the damage of every run that is not live."""
    from store.acknowledgement import acknowledge
    from store.journal import JournalBusy
    from store.naming import journaled

    live: list[str] = []
    total = 0
    for run_id in journaled(home):
        try:
            if count := acknowledge(home, run_id):
                print(
                    f"run {run_id}: {count} damaged places acknowledged; `mathrl-tui doctor --all` lists them"
                )
                total += count
        except JournalBusy:
            live.append(run_id)
    if live:
        raise CommandFailed(
            f"runs that are live: {', '.join(live)}; acknowledge their damage when they have ended"
        )
    if not total:
        print(f"no damage to acknowledge in {home}")
