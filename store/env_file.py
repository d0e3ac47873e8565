"""Settings of the machine: from the environment, else from `.env` in the working directory.

The home ($MATHRL_HOME) and API keys are looked up here, one name at a time. Other entries of the file are ignored, and
none enters the environment. So a directory that another user filled controls only these settings.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_ENTRY = re.compile(
    r"\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>'[^']*'|\"[^\"]*\"|[^\s#].*?|)(?:\s+#.*)?\s*\Z"
)


def setting(name: str, folder: Path | None = None) -> str:
    """Return the environment variable `name`, else its value in `.env`; "" if it is missing or empty.

    `folder` contains the `.env` file (default: the working directory).
    """
    return os.environ.get(name, "").strip() or read_env_file((folder or Path()) / ".env").get(name, "")


def read_env_file(path: Path) -> dict[str, str]:
    """Return the NAME=value lines of a `.env` file, without quotes and comments; empty without a file."""
    if not path.is_file():
        return {}
    # utf-8-sig also reads files written on Windows.
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    entries = (_ENTRY.match(line) for line in text.splitlines())
    return {entry["name"]: entry["value"].strip("'\"") for entry in entries if entry}
