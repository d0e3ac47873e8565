"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from store.home import default_home, home_at


def _home(value: str | Path) -> Path:
    """Convert the option's value; its default is a Path that has been checked."""
    return value if isinstance(value, Path) else home_at(value).resolve()


Home = Annotated[
    Path,
    typer.Option(
        "--home",
        default_factory=default_home,
        show_default="$MATHRL_HOME, else ./artifacts",
        parser=_home,
        metavar="DIRECTORY",
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
