"""Settings of the machine: from the environment, else from the file `.env` in the working directory.

The home ($MATHRL_HOME) and API keys are looked up here, one name at a time. Nothing else is taken from the file and
nothing of it is put into the environment, so that a folder that somebody else filled decides nothing but these.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_ENTRY = re.compile(
    r"\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>'[^']*'|\"[^\"]*\"|[^\s#].*?|)(?:\s+#.*)?\s*\Z"
)


def setting(name: str, folder: Path | None = None) -> str:
    """Return the variable `name` of the environment, else of `.env` in `folder` (default: the working directory).

    Returns: "" if neither has it or it is empty.
    """
    return os.environ.get(name, "").strip() or read_env_file((folder or Path()) / ".env").get(name, "")


def read_env_file(path: Path) -> dict[str, str]:
    """Return the NAME=value lines of a `.env` file, without quotes and comments; nothing if there is no file."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8-sig", errors="replace")  # as Windows writes it, too
    entries = (_ENTRY.match(line) for line in text.splitlines())
    return {entry["name"]: entry["value"].strip("'\"") for entry in entries if entry}
