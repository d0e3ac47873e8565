"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from store.home import default_home

Home = Annotated[
    Path,
    typer.Option(
        "--home",
        default_factory=default_home,
        show_default="$MATHRL_HOME, else ./artifacts",
        resolve_path=True,
        file_okay=False,
        help="folder of runs and results",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Run = Annotated[str, typer.Argument(help="a run: its id, its name, or the beginning of its id")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="override a field, as in sft.learning_rate=2e-6; repeatable"
    ),
]
