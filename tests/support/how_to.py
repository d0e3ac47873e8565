"""The how-to pages as programs: apply the code blocks of a page to a copy of the source.

Append to `FILE`:   ```python …```   the block is added at the end, after two blank lines
Create `FILE`:      ```python …```   the block becomes the file
In `FILE`:          ```diff …```     lines with - and context become lines with + and context
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.support.places import ROOT

PAGES = ROOT / "docs" / "how-to"
PACKAGES = ("profiles", "store", "engine", "mathrl_tui")
_BLOCK = re.compile(r"(Append to|Create|[Ii]n) `([\w./]+)`:\n\n```(?:python|diff)\n(.*?)```\n", re.DOTALL)


def copied(folder: Path) -> Path:
    """Copy the packages to `folder`."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def apply(page: str, tree: Path) -> list[str]:
    """Apply every block of docs/how-to/`page`; return the changed files. Fails if a block does not fit."""
    blocks = _BLOCK.findall((PAGES / page).read_text(encoding="utf-8"))
    for action, name, block in blocks:
        path = tree / name
        if action == "Create":
            assert not path.exists(), name
            path.write_text(block, encoding="utf-8")
        elif action == "Append to":
            path.write_text(path.read_text(encoding="utf-8") + "\n\n" + block, encoding="utf-8")
        else:
            path.write_text(_patched(path.read_text(encoding="utf-8"), block, name), encoding="utf-8")
    return [name for _, name, _ in blocks]


def _patched(text: str, diff: str, name: str) -> str:
    lines = diff.splitlines(keepends=True)
    old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
    assert text.count(old) == 1, f"{name}: the page's lines are there {text.count(old)} times:\n{old}"
    return text.replace(old, new)
