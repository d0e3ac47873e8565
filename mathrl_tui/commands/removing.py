"""Shared options and confirmation of `rm` and `gc`.

The list with sizes comes first, then the question.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mathrl_tui.commands.errors import WrongInput

Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask (for scripts)")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="list what would be removed, and remove nothing")]


def confirm(command: str, question: str, yes: bool) -> bool:
    """Ask whether to remove, and return the answer.

    Raises: WrongInput if there is neither a terminal to ask on nor --yes.
    """
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise WrongInput(
            f"{command}: standard input is not a terminal, so it cannot ask; "
            "add --yes to remove, --dry-run to list only"
        )
    from mathrl_tui.commands.follow import typed_line

    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return typed_line().strip().lower() in ("y", "yes")
