"""`doctor`: checks of this machine, each with a remedy."""

from __future__ import annotations

from dataclasses import asdict

import typer

from mathrl_tui.commands.options import AsJson, Home
from mathrl_tui.commands.printing import print_json


def doctor(home: Home, as_json: AsJson = False) -> None:
    """Check GPUs, driver, shared memory, disk, caches, keys and versions.

    The exit status is 1 if a check fails.
    """
    from engine.startup.doctor import checks

    found = []
    for check in checks(home):
        found.append(check)
        if not as_json:
            print(f"{check.status:<5} {check.name}: {check.detail}", flush=True)
            if check.remedy:
                print(f"      → {check.remedy}")
    if as_json:
        print_json({"checks": [asdict(check) for check in found]})
    if any(check.status == "fail" for check in found):
        raise typer.Exit(1)
