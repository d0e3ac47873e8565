"""The entry point: `mathrl-tui`, or `python -m mathrl_tui`."""

from __future__ import annotations

import os
import sys


def _leave_out_the_working_directory() -> None:
    """Undo what `python -m` does unless it has -P: the folder that a person stands in comes first in the import path.

    A source tree that is run from within stays. Until here nothing has been imported that Python had not loaded.
    """
    if sys.flags.safe_path or not sys.path:
        return
    # pathlib would import modules that might lie in the folder.
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    try:
        here = os.path.realpath(os.getcwd())  # noqa: PTH109
    except FileNotFoundError:
        # The folder is gone, and with it what could be imported from it.
        return
    if os.path.realpath(sys.path[0] or here) == here != os.path.realpath(root):
        del sys.path[0]


_leave_out_the_working_directory()

from mathrl_tui.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
