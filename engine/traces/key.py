"""The teacher's key: from the environment or a `.env` file, into the client's memory and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from profiles.schema import Traces
from store.env_file import setting

NO_KEY = "none"  # what a server on this machine is told where there is no key
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})
_LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk|key|tok)-[\w*-]{6,}|Bearer\s+\S+", re.IGNORECASE)


class KeyMissing(ValueError):
    """There is no key; the message is one line that says where one is looked for."""


def find_key(settings: Traces, folder: Path | None = None) -> str:
    """The key in the environment, else in `folder`'s `.env` (the current folder's). A local server needs none."""
    name = settings.api_key_variable
    key = setting(name, folder)
    if key:
        return key
    if urlsplit(settings.base_url).hostname in _LOCAL_HOSTS:
        return NO_KEY
    raise KeyMissing(
        f"traces: no key for {settings.base_url}; set {name} in the environment or in .env, "
        "or take the data set's own solutions with --set traces.source=solutions"
    )


def without_key(text: str, key: str) -> str:
    """`text` in one short line, with nothing in it that is the key or looks like one."""
    hidden = text.replace(key, "[key]") if key else text
    return " ".join(_LOOKS_LIKE_A_KEY.sub("[key]", hidden).split())[:200]
