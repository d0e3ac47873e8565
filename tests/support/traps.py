"""A folder in which every module that Python or the product could want lies as a trap.

A trap that is imported puts its name on record and raises.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from store import isolated
from tests.support.command_line import PATIENCE, environment

TRAP = """
with open({record!r}, "a") as record:
    record.write(__name__ + "\\n")
raise ImportError("a trap of the tests was imported: " + __name__)
"""
LIBRARIES = (
    "torch",
    "numpy",
    "sympy",
    "transformers",
    "math_verify",
    "duckdb",
    "pydantic",
    "vllm",
    "psutil",
    "typer",
)


class Trapped:
    """A folder full of traps, and programs that are run in it."""

    def __init__(self, folder: Path) -> None:
        self.record = folder / "imported"
        self.folder = folder / "here"
        self.home = folder / "home"
        trap = TRAP.format(record=str(self.record))
        for package in isolated.PACKAGES:
            (self.folder / package).mkdir(parents=True)
            (self.folder / package / "__init__.py").write_text(trap)
        for name in {*sys.stdlib_module_names, *LIBRARIES}:
            (self.folder / f"{name}.py").write_text(trap)
        # What an installed package's command is: a script elsewhere.
        self._script = folder / "bin" / "mathrl-tui"
        self._script.parent.mkdir()
        self._script.write_text("from mathrl_tui.__main__ import main\nmain()\n")

    def run(self, *arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """The product's command, in the folder."""
        return self.python(str(self._script), *arguments, timeout=timeout)

    def python(
        self, *arguments: str, timeout: float = PATIENCE, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Python, in the folder."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment(self.home) | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def imported(self) -> list[str]:
        """The traps that were imported."""
        return self.record.read_text().split() if self.record.exists() else []
