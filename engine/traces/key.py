"""The teacher's key: from the environment or a `.env` file, into the client's memory and nowhere else."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from profiles.schema import Traces

NO_KEY = "none"  # what a server on this machine is told where there is no key
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})
_ENTRY = re.compile(
    r"\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>'[^']*'|\"[^\"]*\"|[^\s#].*?|)(?:\s+#.*)?\s*\Z"
)
_LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk|key|tok)-[\w*-]{6,}|Bearer\s+\S+", re.IGNORECASE)


class KeyMissing(ValueError):
    """There is no key; the message is one line that says where one is looked for."""


def find_key(settings: Traces, folder: Path | None = None) -> str:
    """The key in the environment, else in `folder`'s `.env` (the current folder's). A local server needs none."""
    name = settings.api_key_variable
    key = os.environ.get(name, "").strip() or read_env_file((folder or Path.cwd()) / ".env").get(name, "")
    if key:
        return key
    if urlsplit(settings.base_url).hostname in _LOCAL_HOSTS:
        return NO_KEY
    raise KeyMissing(
        f"traces: no key for {settings.base_url}; set {name} in the environment or in .env, "
        "or take the data set's own solutions with --set traces.source=solutions"
    )


def read_env_file(path: Path) -> dict[str, str]:
    """The NAME=value lines of a `.env` file, without quotes and comments; nothing where there is no file."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8-sig", errors="replace")  # as Windows writes it, too
    entries = (_ENTRY.match(line) for line in text.splitlines())
    return {entry["name"]: entry["value"].strip("'\"") for entry in entries if entry}


def without_key(text: str, key: str) -> str:
    """`text` in one short line, with nothing in it that is the key or looks like one."""
    hidden = text.replace(key, "[key]") if key else text
    return " ".join(_LOOKS_LIKE_A_KEY.sub("[key]", hidden).split())[:200]
