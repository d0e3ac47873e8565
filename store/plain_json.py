"""JSON from untrusted sources: every parse failure is a ValueError."""

from __future__ import annotations

import json
from typing import Any


def parse(text: str | bytes) -> Any:
    """Return the value of the JSON `text`.

    Raises: ValueError with the reason: invalid JSON, invalid UTF-8, a number with thousands of digits, or too
        deeply nested brackets.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object in `text`.

    Raises: ValueError if it is not a JSON object.
    """
    found = parse(text)
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found
