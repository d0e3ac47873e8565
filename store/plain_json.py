"""JSON that may have been written by anybody: whatever Python's parser refuses is one kind of error."""

from __future__ import annotations

import json
from typing import Any


def parse(text: str | bytes) -> Any:
    """Return what the JSON `text` holds.

    Raises: ValueError with the reason: no JSON, no UTF-8, a number of thousands of digits, brackets nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object that `text` holds. Raises: ValueError."""
    found = parse(text)
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found
