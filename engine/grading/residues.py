r"""Residues: `5 \pmod{7}`, `x \equiv 5 \pmod 7`, "5 mod 7"."""

from __future__ import annotations

import re
from typing import NamedTuple

_MODULUS = re.compile(
    r"\s*(?P<open>[(\[])?\s*(?P<how>\\pmod|\\bmod|\\mod|(?<![A-Za-z])mod(?:ulo)?(?![A-Za-z]))\s*"
    r"(?:\{\s*(?P<braced>[^{}]+)\}|(?P<plain>\d+|[A-Za-z](?:\^\{?\w+\}?)?))\s*[)\]]?\s*\Z"
)
_CONGRUENT = re.compile(r"\A[^=]*?(?:\\equiv(?![A-Za-z])|(?<!=)=)\s*")


class Residue(NamedTuple):
    """A value modulo `modulus`; both are text.

    `operation` is True for the remainder of a division, as in "12 mod 7", and False for a congruence.
    """

    value: str
    modulus: str
    operation: bool


def read_residue(text: str) -> Residue | None:
    """Return `text` as a residue, or None."""
    if "mod" not in text:
        return None
    match = _MODULUS.search(text)
    if match is None or not text[: match.start()].strip():
        return None
    value = _CONGRUENT.sub("", text[: match.start()]).strip()
    operation = match["how"] != "\\pmod" and not match["open"] and "\\equiv" not in text
    return Residue(value, (match["braced"] or match["plain"]).strip(), operation)
