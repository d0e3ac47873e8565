"""`export`: results as files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.ingested import warn_of_damage
from mathrl_tui.commands.options import Home


def export(
    home: Home,
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="runs [default: all]")] = None,
    form: Annotated[str, typer.Option("--format", metavar="csv|markdown|json|parquet")] = "csv",
    out: Annotated[Path, typer.Option(help="folder for the files", file_okay=False)] = Path("export"),
    what: Annotated[
        str, typer.Option(help="kinds, separated by commas")
    ] = "metrics,evals,examples,comparisons,watch,config",
) -> None:
    """Write results as files, one for each kind; works while runs are live."""
    from store import export as exporting
    from store.query import Store

    logging.basicConfig(format="%(message)s")
    store = Store(home)
    kinds = [kind for kind in exporting.WHATS if kind in what.split(",")]
    unknown = set(what.split(",")).difference(exporting.WHATS)
    if unknown:
        raise WrongInput(
            f"--what {what}: unknown kind {min(unknown)!r}; choose from {','.join(exporting.WHATS)}"
        )
    formats = [known for known in exporting.FORMATS if known == form]
    if not formats:
        raise WrongInput(f"--format {form}: unknown format; choose one of {', '.join(exporting.FORMATS)}")
    chosen = [store.resolve(run) for run in runs or []]
    for path in exporting.export(store, chosen, kinds, formats[0], out, exporting.NICENESS):
        print(path)
    warn_of_damage(store, chosen or None)
