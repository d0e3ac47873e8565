"""Declared dependencies are the imported ones, as deptry checks them."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("deptry", reason="pip install deptry")

ROOT = Path(__file__).parents[2]


def faults(*options: str, root: Path = ROOT) -> str:
    """Return deptry's report about the tree of `root`, or "" if it found nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "deptry", ".", "--no-ansi", *options],
        cwd=root,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_the_product_declares_what_it_imports_and_nothing_else() -> None:
    assert faults() == ""


def test_the_tests_import_only_what_the_dev_extra_installs() -> None:
    # The development tools are commands, and plugins of pytest, so not all are imported.
    only_tests = [r"\.venv", r"\.git", "build", "docs", "engine", "mathrl_tui", "profiles", "store"]
    excluded = [word for pattern in only_tests for word in ("--exclude", pattern)]
    assert faults(*excluded, "--ignore", "DEP002,DEP004") == ""


def test_an_undeclared_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "new.py").write_text("import httpx2\n")
    assert "engine/new.py:1:8: DEP" in faults("--ignore", "DEP002", root=tmp_path)
