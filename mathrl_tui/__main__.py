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

# Programs that container runtimes put before the first process, and that end with it.
_INITS = frozenset({"docker-init", "tini", "dumb-init", "catatonit", "podman-init"})


def is_first() -> bool:
    """Return True if this is a container's first process, or the only one of the init before it."""
    if os.getpid() == 1:
        return True
    try:
        with open("/proc/1/comm", encoding="utf-8") as file:  # noqa: PTH123
            return os.getppid() == 1 and file.read().strip() in _INITS
    except OSError:
        return False


def main() -> None:
    """Run the command in `sys.argv`; as a container's first process, start it as a child and stay."""
    if is_first():
        from mathrl_tui.first_process import stay
        from store import isolated

        raise SystemExit(stay(isolated.command("mathrl_tui", *sys.argv[1:]), isolated.command("mathrl_tui")))
    from mathrl_tui import cli

    cli.main()


if __name__ == "__main__":
    main()
