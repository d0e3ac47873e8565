"""Multiple-choice options: "(C) 12", "C. 12", "Option C".

Each is read as a letter and its content.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_NAMED = re.compile(
    r"\A(?:the\s+)?(?:option|choice|answer)\s*\(?\s*(?P<letter>[A-Ja-j])\s*\)?\Z", re.IGNORECASE
)
_LETTERED = re.compile(
    r"\A(?:\(\s*(?P<framed>[A-J])\s*\)\s*[:.]?|(?P<letter>[A-J])(?:\s*\)|:|\.)(?=\s))\s*(?P<content>\S.*)\Z",
    re.DOTALL,
)


class LetteredOption(NamedTuple):
    """An option's letter and its content ("" if only the letter is given)."""

    letter: str
    content: str


def read_choice(text: str) -> LetteredOption | None:
    """Return `text` as an option, with its content or by name.

    An option that is named has the word "option" before its letter.
    A bare letter gives None.
    """
    if match := _NAMED.match(text):
        return LetteredOption(match["letter"].upper(), "")
    match = _LETTERED.match(text)
    if match is None or match["content"][0] in "+-*/^_=<>!,)([{":
        return None
    return LetteredOption(match["framed"] or match["letter"], match["content"].strip())
