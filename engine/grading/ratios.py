"""Ratios: "1:2:3" and "2 : 4 : 6" are equal, "3 to 4" is 3:4."""

from __future__ import annotations

import re

_TO = re.compile(r"(?<=[\w})])\s+to\s+(?=[\w\\(-])")
_COLON = re.compile(r"\s*(?::|\\colon(?![a-z])|\\ratio(?![a-z]))\s*")


def with_colons(text: str) -> str:
    """Return `text` with the ratio "3 to 4" as 3:4.

    A text of words stays unchanged.
    """
    if " to " not in text or re.search(r"[A-Za-z]{3}", re.sub(r"\\[A-Za-z]+", " ", text)):
        return text
    return _TO.sub(":", text)


def terms(text: str) -> list[str]:
    """Return the terms of a ratio of three or more terms, or an empty list."""
    if text.count(":") < 2 and "\\colon" not in text:
        return []
    found = _COLON.split(text.strip())
    balanced = all(part and part.count("(") == part.count(")") for part in found)
    return found if len(found) > 2 and balanced and "=" not in text else []
