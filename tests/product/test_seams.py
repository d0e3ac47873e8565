"""Places where types are lost between processes: each has an assignment that mypy checks."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.supervisor.entry_points import EntryPoints
from tests.support.places import ROOT

ENGINE = ROOT / "engine"
ENTRY_POINTS = ENGINE / "supervisor" / "entry_points.py"


def classes() -> Iterator[tuple[ast.Module, ast.ClassDef]]:
    for path in sorted(ENGINE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield tree, node


def typed_assignments(tree: ast.Module) -> set[tuple[str, str]]:
    """Return (annotation, value) of every annotated assignment of a module."""
    return {
        (ast.unparse(node.annotation), ast.unparse(node.value))
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and node.value is not None
    }


def test_every_entry_point_has_a_typed_assignment() -> None:
    assigned = {value for _, value in typed_assignments(ast.parse(ENTRY_POINTS.read_text(encoding="utf-8")))}
    names = dataclasses.asdict(EntryPoints()).values()
    assert names
    assert {name.replace(":", ".") for name in names} <= assigned


def test_every_class_that_claims_a_protocol_has_a_typed_assignment() -> None:
    claims = 0
    for tree, node in classes():
        for claim in re.findall(r"Implements ([\w.]*\w)", ast.get_docstring(node) or ""):
            protocol = claim.rpartition(".")[2]
            assert (f"type[{protocol}]", node.name) in typed_assignments(tree), f"{node.name}: {claim}"
            claims += 1
    assert claims >= 6


def test_every_control_generation_and_generator_claims_its_protocol() -> None:
    """A class with all methods of one of these protocols is passed to a stage or to the worker."""
    everything = {node.name: node for _, node in classes()}
    for protocol in ("Control", "Generation", "Generator"):
        wanted = methods(everything[protocol])
        for tree, node in classes():
            if node.name != protocol and wanted <= methods(node):
                assert (f"type[{protocol}]", node.name) in typed_assignments(tree), node.name


def methods(node: ast.ClassDef) -> set[str]:
    return {each.name for each in node.body if isinstance(each, ast.FunctionDef)}


def test_a_client_with_another_job_type_is_found(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    source = (ENGINE / "ipc" / "worker_client.py").read_text(encoding="utf-8")
    assert "def submit(self, job: Work)" in source
    copy = tmp_path / "client_copy.py"
    copy.write_text(
        source.replace("def submit(self, job: Work)", "def submit(self, job: Job)"), encoding="utf-8"
    )
    copy.write_text(
        copy.read_text().replace("import Completion,", "import Completion, Job,"), encoding="utf-8"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(copy)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert 'variable has type "type[Generation]"' in done.stdout, done.stdout + done.stderr
