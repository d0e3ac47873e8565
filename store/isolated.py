"""Python children that take no code from the folder they run in.

    command("engine.supervisor", path) ─▶ python -P …/store/isolated.py engine.supervisor path ─▶ the module runs

A child has -P, and its environment PYTHONSAFEPATH, so that neither it nor what it starts imports from the working
directory. What the user put into PYTHONPATH counts as it does for the parent. Before the module is imported, the child
compares interpreter, place and version of the packages with its parent's. Nothing of the packages is imported here,
because this file also runs as a script.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

# The parent's `identity`, for its children and for theirs.
CODE = "MATHRL_CODE"
PACKAGES = ("mathrl_tui", "engine", "store", "profiles")
ROOT = Path(__file__).resolve().parents[1]
_INSTALLED = ("site-packages", "dist-packages")


class OtherCode(SystemExit):
    """This process would not run the code that its parent runs; the message is one line."""


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs one of this project's modules as a child; use it with `environment()`."""
    return [sys.executable, "-P", str(ROOT / "store" / "isolated.py"), module, *arguments]


def environment() -> dict[str, str]:
    """Return this process's environment for a child. Run from a source tree, it finds the packages there."""
    entries = [str(ROOT)] if ROOT.name not in _INSTALLED else []
    # An empty entry is the working directory; a relative one would mean another folder in another directory.
    entries += [
        str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry
    ]
    found = {**os.environ, "PYTHONSAFEPATH": "1", CODE: identity()}
    found.pop("PYTHONPATH", None)
    return found | ({"PYTHONPATH": os.pathsep.join(dict.fromkeys(entries))} if entries else {})


@lru_cache(1)
def identity() -> str:
    """Return what this process runs, as at its start: where the packages are, their version and the interpreter's."""
    return json.dumps([str(ROOT), _version(), sys.version])


def check() -> None:
    """Raise OtherCode if this process, whose parent used `environment()`, would run other code than its parent."""
    theirs = os.environ.get(CODE)
    if theirs is None:
        return
    for package in PACKAGES:
        spec = find_spec(package)
        origin = spec.origin if spec is not None and spec.origin else ""
        if Path(origin).resolve() != ROOT / package / "__init__.py":
            raise OtherCode(
                f"package {package} is {origin or 'nowhere'}, not in {ROOT}: take the other one out of PYTHONPATH"
            )
    if identity() != theirs:
        root, release, python = json.loads(theirs)
        raise OtherCode(
            f"this is mathrl-tui {_version()} in {ROOT} under Python {sys.version.split()[0]}, but was started by "
            f"{release} in {root} under {python.split()[0]}: it was installed anew meanwhile; resume the run"
        )


def _version() -> str:
    try:
        return version("mathrl-tui")
    except PackageNotFoundError:
        return "from source"


def main() -> None:
    """Run the module that the first argument names, with the other arguments, as the main module."""
    check()
    module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
