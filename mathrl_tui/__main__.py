"""The entry point: `mathrl-tui`, or `python -m mathrl_tui`."""

from __future__ import annotations

import os
import sys


def _leave_out_the_working_directory() -> None:
    """Remove the working directory from the import path.

    `python -m` puts it first. It stays if Python ran with -P, and for a source tree that is run from within.
    Up to this point only modules that Python had already loaded are imported.
    """
    if sys.flags.safe_path or not sys.path:
        return
    # pathlib would import modules that the working directory could contain.
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    try:
        here = os.path.realpath(os.getcwd())  # noqa: PTH109
    except FileNotFoundError:
        # The directory was deleted, so nothing can be imported from it.
        return
    if os.path.realpath(sys.path[0] or here) == here != os.path.realpath(root):
        del sys.path[0]


_leave_out_the_working_directory()

# Init programs of container runtimes. They start the first process, and exit with it.
_INITS = frozenset({"docker-init", "tini", "dumb-init", "catatonit", "podman-init"})


def is_first() -> bool:
    """Return True if this is a container's first process.

    The only child of a container's init process counts too.
    """
    if os.getpid() == 1:
        return True
    try:
        with open("/proc/1/comm", encoding="utf-8") as file:  # noqa: PTH123
            return os.getppid() == 1 and file.read().strip() in _INITS
    except OSError:
        return False


def main() -> None:
    """Run the command in `sys.argv`.

    As a container's first process, run it as a child and stay.
    """
    if is_first():
        from mathrl_tui.first_process import stay
        from store import isolated

        raise SystemExit(stay(isolated.command("mathrl_tui", *sys.argv[1:]), isolated.command("mathrl_tui")))
    from mathrl_tui import cli

    cli.main()


if __name__ == "__main__":
    main()
