"""The lengths of files and functions stay readable."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.support.places import ROOT

PRODUCT = ("mathrl_tui", "engine", "profiles", "store")
FILE_LINES = 400
# Of 95 % of the functions. The longest one fits on a screen.
FUNCTION_LINES = 25
LONGEST_FUNCTION = 60
# Files in the engine's root, with its __init__.py. Others belong to a package.
ENGINE_FILES = 8


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a file, and its lines from `def` to the end."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_files_have_at_most_400_lines() -> None:
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources(*PRODUCT, "tests")
    }
    assert {name: count for name, count in lines.items() if count > FILE_LINES} == {}


def test_functions_fit_a_screen_and_most_are_short() -> None:
    lines = dict(each for path in sources(*PRODUCT) for each in functions(path))
    assert {name: count for name, count in lines.items() if count > LONGEST_FUNCTION} == {}
    percentile = np.percentile(list(lines.values()), 95)
    longest = sorted(lines.items(), key=lambda each: -each[1])[:20]
    assert percentile <= FUNCTION_LINES, f"p95 is {percentile:g} lines; the longest are {longest}"


def test_the_root_of_the_engine_has_few_files() -> None:
    assert len(list((ROOT / "engine").glob("*.py"))) <= ENGINE_FILES
