"""The language of the docstrings: counts of words that docs/style do not allow, summaries that fit a line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.places import ROOT

PACKAGES = ("profiles", "store", "engine", "mathrl_tui")
SUMMARY_CHARACTERS = 72
PER_TEN_THOUSAND = 2.0
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

# A program does not speak, and a process is "it".
BARRED = {
    "speech verbs": r"\b(say|says|said|saying|tell|tells|told|telling|hear|hears|heard|speaks?|spoken|talks?)\b",
    "persons for processes": r"\b(who|whom|whoever|somebody|nobody|anybody|anew)\b",
    "negated nouns": r"\b(is|are|was|were|be) (no|none)\b|\bno more\b|\bso many\b|\bgone on with\b|\bnone's\b",
}


def docstrings() -> Iterator[tuple[Path, str]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    text = ast.get_docstring(node)
                    if text:
                        yield path.relative_to(ROOT), text


@pytest.mark.parametrize("pattern", BARRED.values(), ids=BARRED)
def test_docstrings_are_in_plain_words(pattern: str) -> None:
    barred = re.compile(pattern, re.IGNORECASE)
    words, found = 0, []
    for path, text in docstrings():
        words += len(text.split())
        found += [f"{path}: {match[0]}" for match in barred.finditer(text)]
    assert 10_000 * len(found) / words <= PER_TEN_THOUSAND, "\n".join(found)


def test_a_summary_fits_a_line() -> None:
    long = [f"{path}: {text.splitlines()[0]}" for path, text in docstrings()]
    assert [line for line in long if len(line.split(": ", 1)[1]) > SUMMARY_CHARACTERS] == []


def public_definitions() -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
            for node in [*tree.body, *(member for each in classes for member in each.body)]:
                if isinstance(node, DEFINITIONS) and not node.name.startswith("_"):
                    yield f"{path.relative_to(ROOT)}: {node.name}", node


def test_every_public_definition_has_a_docstring() -> None:
    assert [place for place, node in public_definitions() if not ast.get_docstring(node)] == []


def test_documented_arguments_exist() -> None:
    unknown = []
    for place, node in public_definitions():
        section = re.search(r"^Args:\n((?: {4}.*\n?)+)", ast.get_docstring(node) or "", re.MULTILINE)
        if section and not isinstance(node, ast.ClassDef):
            given = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
            named = re.findall(r"^ {4}(\w[\w, ]*):", section[1], re.MULTILINE)
            unknown += [
                f"{place}({name})" for each in named for name in each.split(", ") if name not in given
            ]
    assert unknown == []
