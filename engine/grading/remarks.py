"""Remove comments that follow an answer.

Examples: "42, which is even", "42 (forty-two)", "42, not 43". A comment that withdraws the answer or offers
another ("42, or 43", "42, which may be wrong") stays. The answer then does not read as one value.
"""

from __future__ import annotations

import re

_OPENERS = re.compile(
    r"""
      \s*[,;:]?\s*\b(?:because|since|which|whereas|whereby)\b
    | \s*[,;]\s*(?:so|as|where|meaning|making|giving|hence|thus|therefore|being|namely|given|after|when|that\ is
        |i\.e\.?|e\.g\.?|leaving|representing|obtained|showing|in\ (?:other\ words|total|all)|with|because
        |that['’]s|it['’]s)(?=[\s,:])
    | \s*[,;]\s*(?:the|an?|this|it|we|they|he|she|for)\s+(?=[A-Za-z]{2})
    | \s*[,;]?\s*\b(?:as\ (?:required|desired|needed|shown|expected|claimed)|i\.e\.|in\ total|altogether)(?![A-Za-z])
    | \s*,?\s*\b(?:(?:and\s+|but\s+)?not|rather\ than|instead\ of)\s+(?=[\\$\d-])
    | \s+as\s+(?=[\\$\d])
    | (?<=[\d}$)])\s*:\s+(?=[^:]*[A-Za-z]{3})
    | \s+(?:when|once)\ (?:rounded|simplified|reduced|written|expressed|we|you)\b
    | \s+so\ (?=[A-Z][a-z]|(?:the|he|she|we|it|they|this|that)\b)
    | \s*,\s*[a-z]\s*\\in\s*(?=\\mathbb\{[ZN]\})
    | \s*,\s*and\s+(?:we|this|that|so|it|hence|thus|therefore)\b
    | (?P<valued>\s*,\s+(?=[a-z][a-z'’]*(?:\s+[A-Za-z'’]+)+\s*\Z|[a-z]+ly\s*\Z)
        |\s+(?:is|are|was)\s+(?:the|an?|our|my|its|indeed|correct|right)\b)
    | \s*[,、]\s*而?(?:不是|并非)(?=\s*[\\$\d-])
    | \s*;\s+(?=[A-Za-z]{2})(?!(?:or|and)\b)
    | \s+[-]{1,2}\s+(?=[A-Za-z]{3})
    | \s*,?\s*(?:or|and)?\s*\bequivalently\b
    | \s*[,、]?\s*(?:因为|因為|所以|なぜなら|왜냐하면|이므로)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_BRACKETED = re.compile(r"\s+[(（\[](?=[^()\[\]]*(?:(?<![\\A-Za-z])[A-Za-z]{3}|=|i\.e\.|[^\W\d_a-zA-Z]{2}))")
_MODULUS = re.compile(r"\s*[(\[]\s*\\?(?:p|b)?mod")
_DOUBT = re.compile(
    r"\b(?:or|either|maybe|perhaps|possibly|probably|might|may|could|wrong|incorrect|mistaken|unless|if|alternatively|actually"
    r"|should|but|however|unsure|uncertain|guess|correction|wait|is\s+not|isn't|are\s+not|not\s+(?:right|correct|sure))\b",
    re.IGNORECASE,
)
_EQUIVALENT = re.compile(r"[\s,(]*(?:or|and)?[\s,]*equivalently\b[\s,:]*", re.IGNORECASE)
_ALTERNATIVE = re.compile(r"\s*\(\s*or\s+(?P<other>[^()]*)\)\s*\Z", re.IGNORECASE)
_HANGING = re.compile(
    r"(?:\b(?:or|and|not|to|than|either|neither|if|is|are|the|at)|\\(?:cup|cap|times|cdot|le|ge|lt|gt|in|to|lor|land|setminus|pm|ne|equiv|sin|cos|tan|ln|log)|[=<>+*/^,-])\s*\Z",
    re.IGNORECASE,
)
_WORD_BEFORE = re.compile(r"\A(?:[A-Za-z][a-z']+\s+){4,}")
_VALUE = re.compile(r"[\d\\]")
_MAX = 2000


def without_remark(text: str) -> str:
    """Return `text` up to the first comment at its outer level.

    It returns all of `text` if the comment casts doubt on the answer.
    """
    if len(text) > _MAX or not (" " in text or ";" in text or "," in text or not text.isascii()):
        return text
    alternative = _ALTERNATIVE.search(text)
    if alternative and not _EQUIVALENT.match(alternative.group().strip(" (")):
        return f"{text[: alternative.start()]}, or {alternative['other']}"
    at = comment_at(text)
    if at is None:
        return text
    head, comment = text[:at].rstrip(" ,;"), text[at:]
    if not head or _HANGING.search(head) or _WORD_BEFORE.match(head):
        return text
    remark = _EQUIVALENT.sub(" ", comment, count=1)
    return text if _DOUBT.search(remark) else head


def comment_at(text: str) -> int | None:
    """Return the start of the first outer comment of `text`, or None."""
    places = [
        match.start()
        for match in _OPENERS.finditer(text)
        if _outside(text, match.start())
        and (match["valued"] is None or _VALUE.search(text, 0, match.start()))
    ]
    for match in _BRACKETED.finditer(text):
        if _outside(text, match.start()) and not _MODULUS.match(text, match.start()):
            places.append(match.start())
            break
    return min((place for place in places if place > 0), default=None)


def _outside(text: str, at: int) -> bool:
    """Return True if all brackets are closed before `text[at]`."""
    head = text[:at]
    return all(head.count(opening) <= head.count(closing) for opening, closing in ("()", "{}")) or _half_open(
        head
    )


def _half_open(head: str) -> bool:
    """Return True if the brackets in `head` are those of half-open intervals."""
    return head.count("(") + head.count("[") == head.count(")") + head.count("]")
