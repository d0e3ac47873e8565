"""The working directory is no code: whatever lies in it, no process of the product imports it.

Whole runs from such a folder are in tests/engine/startup/test_relocation.py, benchmarks in
tests/mathrl_tui/commands/test_bench.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from store import isolated
from tests.support.command_line import ROOT
from tests.support.traps import TRAP, Trapped


@pytest.fixture
def trapped(tmp_path: Path) -> Trapped:
    return Trapped(tmp_path)


def test_the_traps_work(trapped: Trapped) -> None:
    assert trapped.python("-c", "import sympy").returncode == 1
    assert trapped.imported() == ["sympy"]


def test_the_graders_child(trapped: Trapped) -> None:
    rows = trapped.folder / "rows.jsonl"
    rows.write_text(json.dumps({"id": 1, "completion": "\\boxed{2\\sqrt{2}}", "answer": "\\sqrt{8}"}) + "\n")
    done = trapped.run("grade", "rows.jsonl", "--out", "graded.jsonl")
    assert done.returncode == 0, done.stderr
    assert json.loads((trapped.folder / "graded.jsonl").read_text())["outcome"] == "correct"
    assert trapped.imported() == []


def test_doctor(trapped: Trapped) -> None:
    trapped.run("doctor")
    assert trapped.imported() == []


def test_python_m_from_a_folder_of_traps(trapped: Trapped) -> None:
    """With -m Python itself looks into the folder first; what the product can do about it, it does."""
    (trapped.folder / "mathrl_tui" / "__init__.py").unlink()
    (trapped.folder / "mathrl_tui").rmdir()
    done = trapped.python("-m", "mathrl_tui", "profiles")
    own = set(sys.stdlib_module_names) & set(trapped.imported())
    assert done.returncode == 0 or own, done.stderr
    for name in own:
        (trapped.folder / f"{name}.py").unlink()
    trapped.record.unlink(missing_ok=True)
    assert trapped.python("-m", "mathrl_tui", "profiles").returncode == 0
    assert trapped.imported() == []


def child(trapped: Trapped, **more: str) -> subprocess.CompletedProcess[str]:
    """A child that fails at once for want of arguments, unless it is refused before."""
    return subprocess.run(
        isolated.command("engine.startup.self_check"),
        cwd=trapped.folder,
        env=isolated.environment() | more,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_a_child_that_would_run_another_engine_says_so_and_imports_nothing_of_it(trapped: Trapped) -> None:
    other = trapped.folder.parent / "other"
    (other / "engine").mkdir(parents=True)
    (other / "engine" / "__init__.py").write_text(TRAP.format(record=str(trapped.record)))
    found = child(trapped, PYTHONPATH=os.pathsep.join([str(other), str(ROOT)]))
    assert found.returncode == 1
    assert found.stderr == (
        f"package engine is {other}/engine/__init__.py, not in {ROOT}: take the other one out of PYTHONPATH\n"
    )
    assert trapped.imported() == []


def test_a_child_of_another_version_says_so(trapped: Trapped) -> None:
    root, _, python = json.loads(isolated.identity())
    found = child(trapped, **{isolated.CODE: json.dumps([root, "0.0.1", python])})
    assert found.returncode == 1
    assert "was started by 0.0.1" in found.stderr and found.stderr.endswith("resume the run\n")


def test_pythonpath_counts_as_it_did_for_the_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "mine", "/elsewhere"]))
    kept = isolated.environment()["PYTHONPATH"].split(os.pathsep)
    assert kept[-2:] == [str(tmp_path / "mine"), "/elsewhere"]
    assert str(tmp_path) not in kept
