"""Capabilities of the terminal behind the standard streams."""

from __future__ import annotations

import os
import sys

# Values of TERM for a terminal without cursor control.
_PRINTS_ONLY = ("dumb", "unknown")


def can_redraw() -> bool:
    """Return True if standard output is a terminal that can move its cursor."""
    return sys.stdout.isatty() and not _prints_only()


def console_fault() -> str:
    """Return why the console cannot be shown, and what to do.

    The console reads keys from standard input and paints on standard error, as Textual does.

    Returns: one line; "" if the console can be shown.
    """
    streams = {"input": sys.stdin, "output": sys.stdout, "error": sys.stderr}
    others = [name for name, stream in streams.items() if not stream.isatty()]
    instead = "`mathrl-tui status` and `mathrl-tui attach RUN` print lines"
    if others:
        verb = "is not a terminal" if len(others) == 1 else "are not terminals"
        return f"the console needs a terminal, and standard {' and '.join(others)} {verb}; {instead}"
    if _prints_only():
        return f"the console cannot be shown on TERM={os.environ['TERM']}; set TERM as your terminal does, or {instead}"
    return ""


def _prints_only() -> bool:
    return os.environ.get("TERM") in _PRINTS_ONLY
