"""Python child processes that import no code from their working directory.

    command("engine.supervisor", path) ─▶ python -P …/store/isolated.py engine.supervisor path ─▶ the module runs

A child has -P, and PYTHONSAFEPATH in its environment. So neither the child nor its own children import from the working
directory. PYTHONPATH works as it does for the parent. Before the module is imported, the child compares interpreter,
location and version of the packages with those of its parent. This file imports none of the packages, because it also
runs as a script.
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

# The parent's `identity`, for all its descendants.
CODE = "MATHRL_CODE"
PACKAGES = ("mathrl_tui", "engine", "store", "profiles")
ROOT = Path(__file__).resolve().parents[1]
_INSTALLED = ("site-packages", "dist-packages")


class OtherCode(SystemExit):
    """This process would run other code than its parent.

    The message is one line.
    """


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module of this project as a child.

    Use it with `environment()`.
    """
    return [sys.executable, "-P", str(ROOT / "store" / "isolated.py"), module, *arguments]


def environment() -> dict[str, str]:
    """Return the environment for a child.

    When run from a source tree, it includes the tree's root.
    """
    entries = [str(ROOT)] if ROOT.name not in _INSTALLED else []
    # An empty entry is the working directory. A relative one would change its meaning in another directory.
    entries += [
        str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry
    ]
    found = {**os.environ, "PYTHONSAFEPATH": "1", CODE: identity()}
    found.pop("PYTHONPATH", None)
    return found | ({"PYTHONPATH": os.pathsep.join(dict.fromkeys(entries))} if entries else {})


@lru_cache(1)
def identity() -> str:
    """Return which code this process runs: packages and Python's version.

    The packages' location and version are those of the process start.
    """
    return json.dumps([str(ROOT), _version(), sys.version])


def check() -> None:
    """Compare this process's code with that of its parent.

    The parent passed it by `environment()`.

    Raises: OtherCode if they differ.
    """
    theirs = os.environ.get(CODE)
    if theirs is None:
        return
    for package in PACKAGES:
        spec = find_spec(package)
        origin = spec.origin if spec is not None and spec.origin else ""
        if Path(origin).resolve() != ROOT / package / "__init__.py":
            raise OtherCode(
                f"package {package} is {origin or 'missing'}, not in {ROOT}: take the other one out of PYTHONPATH"
            )
    if identity() != theirs:
        root, release, python = json.loads(theirs)
        raise OtherCode(
            f"this is mathrl-tui {_version()} in {ROOT} under Python {sys.version.split()[0]}, but was started by "
            f"{release} in {root} under {python.split()[0]}: the installation has changed since; resume the run"
        )


def _version() -> str:
    try:
        return version("mathrl-tui")
    except PackageNotFoundError:
        return "from source"


def main() -> None:
    """Run the module in the first argument as the main module.

    It gets the remaining arguments.
    """
    check()
    module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
