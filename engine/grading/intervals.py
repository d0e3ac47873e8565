"""Sets of real numbers: intervals, unions, inequalities in one variable.

A region is a union of intersections of pieces. Ends stay text here; the child process evaluates them. "(1,2)"
alone may be a point. It is read as an interval only against a text that has no other reading.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_RELATION = re.compile(r"\\(?:le|ge|lt|gt|ne)(?![A-Za-z])|<=|>=|!=|[<>]|(?<![<>!=])=(?!=)")
_SIGN = {"\\le": "<=", "\\ge": ">=", "\\lt": "<", "\\gt": ">", "\\ne": "!=", "=": "=="}
_MIRROR = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!=", "==": "=="}
_GREEK = "theta|alpha|beta|lambda|mu|phi|varphi|omega|gamma|delta|epsilon|tau|rho|psi|xi"
_VARIABLE = rf"(?:[A-Za-z]|\\(?:{_GREEK}))(?:_\{{?\w\}}?)?(?:\([a-z]\))?"
_MEMBER = re.compile(rf"\A\s*({_VARIABLE})\s*\\in(?![A-Za-z])\s*")
_BUILDER = re.compile(
    rf"\A\\\{{\s*({_VARIABLE})\s*(?:\\in\s*(?:\\mathbb\{{R\}}|R))?\s*(?:\\mid(?![a-z])|\||:)\s*(.*)\\\}}\Z"
)
_UNION = re.compile(r"\\cup(?![A-Za-z])|\\lor(?![A-Za-z])|\\vee(?![A-Za-z])|\bU\b|\bor\b|\bunion\b")
_MEET = re.compile(r"\\land(?![A-Za-z])|\\wedge(?![A-Za-z])|\band\b|,|;")
_CAP = re.compile(r"\\cap(?![A-Za-z])|∩")
_INTERVAL = re.compile(r"\A\s*([\[(\]])(.*)([\])\[])\s*\Z", re.DOTALL)
_ALL = re.compile(r"\A\s*(?:\\mathbb\{R\}|\\Re)\s*\Z", re.IGNORECASE)
_MINUS = re.compile(r"\A\s*(?:\\mathbb\{R\})\s*(?:\\setminus|-|\\)\s*\\\{(.*)\\\}\s*\Z")
_VARIABLE_ALONE = re.compile(rf"\A\s*({_VARIABLE})\s*\Z")
_INFINITE = re.compile(r"\\infty|\binfinity\b|\binf\b|\boo\b")
_MAX_PIECES = 16


class Piece(NamedTuple):
    """An interval, a point, or all numbers except a point.

    Attributes:
        kind: "span" is {x : low < x < high} with each end open or closed. "point" is a point. "not" is
            {x : x ≠ point}. "relation" is an unsolved inequality, in `low`.
    """

    kind: str
    low: str
    low_open: bool
    high: str
    high_open: bool


class RealSet(NamedTuple):
    """A union of intersections of pieces.

    Attributes:
        variable: the bounded variable, if named.
        certain: the text has no other reading.
    """

    union: tuple[tuple[Piece, ...], ...]
    variable: str
    certain: bool


_LINE = Piece("span", "-\\infty", True, "\\infty", True)


def read_region(text: str) -> RealSet | None:
    """Return `text` as a set of real numbers.

    Return None if it cannot be read as one.
    """
    variable, certain = "", False
    if match := _MEMBER.match(text):
        variable, text, certain = match[1], text[match.end() :], True
    elif match := _BUILDER.match(text):
        variable, text, certain = match[1], match[2], True
    union: list[tuple[Piece, ...]] = []
    pieces = _split(_UNION, text)
    for part in pieces:
        read = _member(part)
        if read is None or (read.variable and variable and read.variable != variable):
            return None
        union.extend(read.union)
        variable, certain = variable or read.variable, certain or read.certain
    if len(union) > _MAX_PIECES:
        return None
    spread = len(pieces) > 1 and (
        "\\cup" in text or any(piece.kind != "point" for part in union for piece in part)
    )
    return RealSet(tuple(union), variable, certain or spread)


def _member(text: str) -> RealSet | None:
    """Return one member of a union.

    It is an interval, points, or inequalities that hold together.
    """
    if match := _MEMBER.match(text):
        inner = read_region(text[match.end() :])
        return inner._replace(variable=match[1], certain=True) if inner else None
    if "\\cap" in text:
        return _intersection(text)
    if _ALL.match(text):
        return RealSet(((_LINE,),), "", True)
    if match := _MINUS.match(text):
        points = tuple(Piece("not", point, False, point, False) for point in _split(_MEET, match[1]))
        return RealSet((points,), "", True)
    text = text.strip()
    if text.startswith("\\{") and text.endswith("\\}"):
        points = tuple(Piece("point", point, False, point, False) for point in _split(_MEET, text[2:-2]))
        return RealSet(tuple((point,) for point in points), "", False)
    if interval := _interval(text):
        certain = interval.low_open != interval.high_open or text[0] == "]" or bool(_INFINITE.search(text))
        return RealSet(((interval,),), "", certain)
    return _inequalities(text)


def _intersection(text: str) -> RealSet | None:
    """Return intervals that are joined by ∩."""
    members = [_member(part) for part in _split(_CAP, text)]
    if len(members) < 2 or not all(member is not None and len(member.union) == 1 for member in members):
        return None
    return RealSet((tuple(piece for member in members if member for piece in member.union[0]),), "", True)


def _interval(text: str) -> Piece | None:
    match = _INTERVAL.match(text)
    if match is None:
        return None
    ends = _split(re.compile(r",|;"), match[2])
    if len(ends) != 2 or match[1] + match[3] in ("([", "])"):
        return None
    return Piece("span", ends[0].strip(), match[1] != "[", ends[1].strip(), match[3] != "]")


def _inequalities(text: str) -> RealSet | None:
    """Return inequalities in one variable that all hold.

    They are joined by "and" or commas.
    """
    pieces: list[Piece] = []
    variable = ""
    for part in _split(_MEET, text):
        read = _chain(part)
        if read is None and pieces and pieces[-1].kind == "not" and not _RELATION.search(part):
            # Example: x ≠ 1, 2.
            pieces.append(_bound("!=", part))
            continue
        if read is None or (variable and read[0] != variable):
            return None
        variable = read[0]
        pieces.extend(read[1])
    certain = any(piece.kind != "point" for piece in pieces)
    return RealSet((tuple(pieces),), variable, certain) if pieces else None


def _chain(text: str) -> tuple[str, list[Piece]] | None:
    """Return the variable and the bounds of a chain of inequalities.

    The forms are `a < x`, `x < b`, `a < x < b` and `x ≠ a`.
    """
    signs = [_SIGN.get(sign.group(), sign.group()) for sign in _RELATION.finditer(text)]
    sides = [side.strip() for side in _RELATION.split(text)]
    if not 1 <= len(signs) <= 2 or not all(sides) or (len(signs) == 2 and "==" in signs):
        return None
    places = [place for place, side in enumerate(sides) if _VARIABLE_ALONE.match(side)]
    if len(signs) == 2 and 1 in places:
        places = [1]
    if len(places) != 1 or (len(signs) == 2 and places != [1]):
        return _unsolved(text)
    place = places[0]
    variable = sides[place]
    pieces = []
    for number, sign in enumerate(signs):
        bound = sides[number] if number < place else sides[number + 1]
        if _mentions(bound, variable):
            return _unsolved(text)
        pieces.append(_bound(_MIRROR[sign] if number < place else sign, bound))
    return variable, pieces


def _unsolved(text: str) -> tuple[str, list[Piece]] | None:
    """Return an inequality in one variable that is not isolated on one side."""
    if "=" in text and not re.search(r"[<>!]=", text):
        return None
    letters = set(re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", re.sub(r"\\[A-Za-z]+", " ", text))) - {"e"}
    if len(letters) != 1 or len(_RELATION.findall(text)) != 1:
        return None
    return letters.pop(), [Piece("relation", text, False, "", False)]


def _mentions(bound: str, variable: str) -> bool:
    return re.search(rf"(?<![A-Za-z\\]){re.escape(variable)}(?![A-Za-z])", bound) is not None


def _bound(sign: str, bound: str) -> Piece:
    """Return {x : x `sign` bound}."""
    if sign in ("<", "<="):
        return Piece("span", "-\\infty", True, bound, sign == "<")
    if sign in (">", ">="):
        return Piece("span", bound, sign == ">", "\\infty", True)
    return Piece("not" if sign == "!=" else "point", bound, False, bound, False)


def _split(separator: re.Pattern[str], text: str) -> list[str]:
    """Split `text` at each `separator` outside brackets.

    Brackets of half-open intervals count as pairs.
    """
    parts, start = [], 0
    for match in separator.finditer(text):
        head = text[start : match.start()]
        opened = sum(map(head.count, "([{")) - sum(map(head.count, ")]}"))
        if opened <= 0 or (opened and _french(head)):
            parts.append(head.strip())
            start = match.end()
    return [part for part in (*parts, text[start:].strip()) if part]


def _french(head: str) -> bool:
    """Return True if `head` is a whole interval in the notation ]a, b[."""
    return re.fullmatch(r"\s*[\[\]][^\[\]()]*,[^\[\]()]*[\[\]]\s*", head) is not None
