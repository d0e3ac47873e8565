"""The hash of a module's code: documentation does not count, everything else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.data.code_hash import code_hash

SOURCE = '''"""Rows."""

SIZE = 3


class Kind:
    """A kind."""


def row(place: int) -> str:
    """Return a row."""
    return "row" * place + str(SIZE)
'''


def hash_of(folder: Path, text: str) -> str:
    path = folder / "module.py"
    path.write_text(text)
    return code_hash(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Rows."""', '"""Rows, said in other words."""'),
        ('"""A kind."""', "pass"),
        ('    """Return a row."""\n', ""),
        ("SIZE = 3", "# Why it is three.\nSIZE = 3  # rows"),
        ('return "row"', "return  'row'"),
    ],
)
def test_documentation_does_not_change_the_hash(tmp_path: Path, old: str, new: str) -> None:
    assert old in SOURCE
    assert hash_of(tmp_path, SOURCE.replace(old, new)) == hash_of(tmp_path, SOURCE)


@pytest.mark.parametrize(
    ("old", "new"), [("SIZE = 3", "SIZE = 4"), ('"row"', '"rows"'), ("* place", "+ place"), ("str(", "repr(")]
)
def test_code_changes_the_hash(tmp_path: Path, old: str, new: str) -> None:
    assert old in SOURCE
    assert hash_of(tmp_path, SOURCE.replace(old, new)) != hash_of(tmp_path, SOURCE)
