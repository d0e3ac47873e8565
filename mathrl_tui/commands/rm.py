"""`rm`: remove runs, or only their rollouts or optimizer state."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.options import AsJson, Home
from mathrl_tui.commands.printing import print_json, print_notice, table
from mathrl_tui.commands.removing import DryRun, Yes, confirm

if TYPE_CHECKING:
    from engine.cleanup.removal import RemovedPart

_SUBJECTS = {
    "all": "{runs} with all rows and checkpoints",
    "rollouts": "the recorded rollouts of {runs}",
    "optimizer": "the optimizer state of {runs}",
}


def rm(
    home: Home,
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="runs: ids, names, or beginnings of ids")
    ],
    rollouts: Annotated[
        bool, typer.Option("--rollouts", help="only recorded rollouts; replay is then impossible")
    ] = False,
    optimizer: Annotated[
        bool,
        typer.Option(
            "--optimizer",
            help="only optimizer state; the run can then be evaluated and exported, but not resumed",
        ),
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Remove runs: list sizes, ask, then remove.

    A live run is rejected.
    """
    from engine.cleanup.disk_usage import readable
    from engine.cleanup.removal import chosen, needed_by, remove_runs, sizes
    from store.query import Store

    if rollouts and optimizer:
        raise WrongInput("rm: --rollouts and --optimizer cannot be combined; run rm twice")
    what: RemovedPart = "rollouts" if rollouts else "optimizer" if optimizer else "all"
    store = Store(home)
    found = list(dict.fromkeys(store.resolve(run) for run in runs))
    kinds = {run_id: sizes(home, run_id) for run_id in found}
    total = sum(chosen(each, what) for each in kinds.values())
    needed = needed_by(home, found)
    if not as_json:
        print(_table(kinds, what), flush=True)
    for line in needed:
        print_notice(f"note: {line}")
    subject = _SUBJECTS[what].format(runs=found[0] if len(found) == 1 else f"{len(found)} runs")
    if not dry_run and (total or what == "all"):
        if not confirm("rm", f"Remove {subject}, {readable(total)}?", yes):
            raise typer.Abort
        remove_runs(home, found, what)
        if not as_json:
            print(f"removed {subject}: {readable(total)}")
    if as_json:
        print_json(
            {"what": what, "bytes": total, "dry_run": dry_run, "needed_by": needed, "runs": _listed(kinds)}
        )


def _listed(kinds: dict[str, Counter[str]]) -> list[dict[str, object]]:
    return [
        {"run": run_id, "total": sum(each.values()), "bytes": dict(each)} for run_id, each in kinds.items()
    ]


def _table(kinds: dict[str, Counter[str]], what: RemovedPart) -> str:
    """Return a table of the runs with their sizes by kind.

    What will be removed comes last.
    """
    from engine.cleanup.disk_usage import RUN_KINDS, readable
    from engine.cleanup.removal import chosen

    shown = [kind for kind in RUN_KINDS if any(each[kind] for each in kinds.values())]
    rows = [
        (run_id, *(readable(each[kind]) for kind in shown), readable(chosen(each, what)))
        for run_id, each in kinds.items()
    ]
    return table(("run", *shown, "to remove"), rows)
