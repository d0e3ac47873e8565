"""The teacher's key, from the environment or a `.env` file.

It is held only in the client's memory.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from profiles.schema import Traces
from store.env_file import EnvFileFault, setting

# Sent to a server on this machine if there is not any key.
NO_KEY = "none"
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})
_LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk|key|tok)-[\w*-]{6,}|Bearer\s+\S+", re.IGNORECASE)


class KeyMissing(ValueError):
    """The key was not found.

    The message gives in one line the places that were searched.
    """


def find_key(settings: Traces, folder: Path | None = None) -> str:
    """Return the teacher's key from the environment, else from `.env`.

    For a server on this machine without a key, the result is NO_KEY, a placeholder.
    Args:
        folder: directory of the `.env` file; None for the current one.
    Raises: KeyMissing if a key is needed and was not found, or if `.env` cannot be read.
    """
    name = settings.api_key_variable
    try:
        key = setting(name, folder)
    except EnvFileFault as error:
        raise KeyMissing(f"traces: {error}") from None
    if key:
        return key
    if urlsplit(settings.base_url).hostname in _LOCAL_HOSTS:
        return NO_KEY
    raise KeyMissing(
        f"traces: no key for {settings.base_url}; set {name} in the environment or in .env, "
        "or take the data set's own solutions with --set traces.source=solutions"
    )


def without_key(text: str, key: str) -> str:
    """Return `text` as one short line without the key.

    Anything that looks like a key is removed too.
    """
    hidden = text.replace(key, "[key]") if key else text
    return " ".join(_LOOKS_LIKE_A_KEY.sub("[key]", hidden).split())[:200]
