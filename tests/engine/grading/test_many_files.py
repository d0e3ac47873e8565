"""The grader in a process that has many files open."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from engine.grading import symbolic

DESCRIPTORS = 1100  # more than select() can watch


@pytest.fixture
def many_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * DESCRIPTORS:
        pytest.skip("this machine allows no process so many files")
    monkeypatch.setattr(symbolic, "_child", None)
    with ExitStack() as files:
        files.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * DESCRIPTORS), hard))
        for _ in range(DESCRIPTORS):
            files.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        yield


def test_formulas_are_compared_where_many_files_are_open(many_files: None) -> None:
    assert symbolic.equal("(x+1)^2", "x^2+2x+1")
    assert not symbolic.equal("(x+1)^2", "x^2+1")
    assert symbolic._child is not None
    symbolic._child.close()
