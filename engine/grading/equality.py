"""Decide whether two answers are equal.

Numbers are compared exactly, collections part by part, sets as sets, formulas by value.
"""

from __future__ import annotations

import re
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import NamedTuple

from engine.grading import symbolic as grading_symbolic
from engine.grading.choices import read_choice
from engine.grading.clock import Time, read_time
from engine.grading.compounds import read_compound
from engine.grading.dates import Date, read_date
from engine.grading.equations import Equation, read_equation
from engine.grading.intervals import read_region
from engine.grading.numbers import Number, read_number
from engine.grading.parts import Parts, read_parts
from engine.grading.ratios import terms, with_colons
from engine.grading.remarks import without_remark
from engine.grading.residues import read_residue
from engine.grading.statements import STATED
from engine.grading.text import clean, last_unit, unwrapped, without_units, worded
from engine.grading.units import DEGREE, UnitFactor, conflict, ratio, read_unit, split_unit
from engine.grading.words import in_digits

_PLAIN = re.compile(r"-?\d{1,15}\Z")
_LOOSE_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
# Braces around one character, which could stand alone, or around a base.
_IDLE_BRACES = re.compile(r"\{(\w)\}|(?<=_)\{(\d+)\}")
# A bound, a denial, or several numbers, lines or sets: not one value.
_NO_VALUE = re.compile(
    r"[<>≠]|\\n(?:eq?|ot)(?![a-z])|\\[lg](?:e|eq|t|eqslant|eqq)(?![A-Za-z])|\\\\|&|\\c[ua]p(?![A-Za-z])"
    r"|(?<![\d_^.])(?<!frac )\d+[\s$]+\d"
)
# A single letter may be a variable: R is not r.
_WORD = re.compile(r"(?<![\\A-Za-z])[^\W\d_]{2,}")
_ARTICLE = re.compile(r"\A(?:an?|the)\s+(?=[A-Za-z]{3})", re.IGNORECASE)
_REMAINDER = re.compile(r"(\d)\s*(?:[rR]|remainder)\.?\s*(\d)")
_TEXT_BASE = re.compile(r"(?<=\d)\s*_\s*\{\s*([a-z]+)\s*\}")
_LETTER = re.compile(r"\(?([A-Za-z])\)?\Z")
_MATHEMATICAL = re.compile(
    r"[\d\\^=<>|]|\A[-+(\[]*[A-Za-z]\b|(?<![A-Za-z])(?:[A-Za-z]{1,3}\s*[-+*/]|(?:pi|sqrt|infinity)(?![a-z]))"
)
# Example: 3 red and 2 blue.
_COUNTED = re.compile(r"\d\s+[A-Za-z]{3,}\s*(?:,|;|\band\b)[\sand]*\d+\s+[A-Za-z]{3,}")
# Matches text that states an angle in radians.
_ANGLE = re.compile(r"\\pi|\\arc|\^\s*\{\s*-1\s*\}")
_MAX_PARTS = 12


class ParsedAnswer(NamedTuple):
    """An answer, cleaned and parsed.

    Attributes:
        text: the cleaned text.
        number: None if the text is not one number.
        unit: the unit's words; "" if the answer has none.
        raw: the text before it was cleaned.
        time: None if the text is not a time of day; `date` likewise.
    """

    text: str
    number: Number | None
    unit: str = ""
    raw: str = ""
    time: Time | None = None
    date: Date | None = None

    @property
    def canonical(self) -> str:
        """The form that equal answers share, if it is known.

        It is the number, else the cleaned text.
        """
        return str(self.number) if self.number is not None else self.text

    @property
    def measure(self) -> UnitFactor | None:
        """The parsed unit; None if the answer has none or it is not known."""
        return read_unit(self.unit) if self.unit else None


@lru_cache(20_000)
def read_answer(text: str) -> ParsedAnswer:
    """Parse an answer: clean `text`, and read its number, unit, time or date."""
    stripped = text.strip()
    if _PLAIN.match(stripped):
        return ParsedAnswer(stripped, read_number(stripped), raw=stripped)
    cleaned = clean(text)
    stated = STATED.match(cleaned) or STATED.match(cleaned.removeprefix("The ").removeprefix("the "))
    return _read(unwrapped(without_remark(stated.string[stated.end() :] if stated else cleaned)))


def _read(cleaned: str) -> ParsedAnswer:
    """Return an Answer from cleaned text."""
    time = read_time(worded(cleaned))
    if time is not None and time.certain:
        return ParsedAnswer(worded(cleaned), None, raw=cleaned, time=time)
    if date := read_date(worded(cleaned)):
        return ParsedAnswer(worded(cleaned), None, raw=cleaned, date=date)
    number = read_number(cleaned) or read_compound(worded(cleaned)) or read_number(in_digits(cleaned))
    if number is not None:
        return ParsedAnswer(without_units(cleaned), number, number.unit, cleaned, time)
    if _COUNTED.search(worded(cleaned)):
        return ParsedAnswer(worded(cleaned), None, raw=cleaned)
    cleaned = with_colons(cleaned)
    body, unit = last_unit(cleaned)
    if not unit:
        body, unit = split_unit(cleaned)
    return ParsedAnswer(without_units(body), None, unit, cleaned, time)


def same(answer: ParsedAnswer, gold: ParsedAnswer) -> bool:
    """Return True if `answer` equals `gold`.

    The answer may add what `gold` leaves open, such as a unit or the half of the day.
    """
    if answer.time is not None and gold.time is not None and (answer.time.certain or gold.time.certain):
        return answer.time.equals(gold.time)
    if answer.date is not None and gold.date is not None:
        return answer.date.equals(gold.date)
    options = read_choice(answer.raw), read_choice(gold.raw)
    if options[0] or options[1]:
        return _same_choice(answer, gold)
    if answer.number is not None and gold.number is not None:
        return _same_number(answer, gold)
    if gold.number is not None and _NO_VALUE.search(answer.text):
        return False
    if answer.number is not None and _NO_VALUE.search(gold.text):
        return False
    if conflict(answer.measure, gold.measure):
        return False
    factor, pi = ratio(answer.measure, gold.measure)
    if factor == 1 and pi == 0:
        if answer.text == gold.text or _same_text(answer.text, gold.text):
            return True
        return _same_rounded(answer, gold) or _same_angle(answer, gold)
    scaled = f"({answer.text})\\cdot\\frac{{{factor.numerator}}}{{{factor.denominator}}}\\cdot\\pi^{{{pi}}}"
    return grading_symbolic.equal(scaled, gold.text)


def _same_choice(answer: ParsedAnswer, gold: ParsedAnswer) -> bool:
    """Compare an option with an option or with a content.

    An option with content equals that option and that content. If both sides have both, both must agree.
    """
    left, right = read_choice(answer.raw), read_choice(gold.raw)
    if left and right:
        contents = not (left.content and right.content) or _same_item(left.content, right.content)
        return left.letter == right.letter and contents
    option, other = (left, gold) if left else (right, answer)
    assert option is not None
    letter = _LETTER.match(other.raw.strip().rstrip("."))
    if letter:
        return letter[1].upper() == option.letter
    if not option.content:
        return False
    return _same_item(option.content, gold.raw) if left else _same_item(answer.raw, option.content)


def _same_number(answer: ParsedAnswer, gold: ParsedAnswer) -> bool:
    assert answer.number is not None
    assert gold.number is not None
    if conflict(answer.measure, gold.measure):
        return False
    names = {equation.variable for equation in map(read_equation, (answer.text, gold.text)) if equation} - {
        ""
    }
    if len(names) > 1:
        return False
    factor, pi = ratio(answer.measure, gold.measure)
    if factor != 1 and pi == 0:
        return answer.number.value * factor == gold.number.value
    return answer.number.equals(gold.number) and pi == 0


def _same_rounded(answer: ParsedAnswer, gold: ParsedAnswer) -> bool:
    """Return True if one is irrational and the other its decimal.

    Six decimals count.
    """
    number, formula = (gold.number, answer.text) if gold.number is not None else (answer.number, gold.text)
    if number is None or not number.decimal or number.percent or not _MATHEMATICAL.search(formula):
        return False
    equation = read_equation(formula)
    value = number.value
    with localcontext() as context:
        context.prec = 60
        decimal = str(Decimal(value.numerator) / Decimal(value.denominator))
    return grading_symbolic.rounds_to(equation.value if equation else formula, decimal)


def _same_angle(answer: ParsedAnswer, gold: ParsedAnswer) -> bool:
    """Return True if two angles are equal, one in degrees, one in radians.

    The radians contain π and have no unit.
    """
    if (answer.measure == DEGREE) == (gold.measure == DEGREE) or (answer.unit and gold.unit):
        return False
    degrees, other = (answer, gold) if answer.measure == DEGREE else (gold, answer)
    return _ANGLE.search(other.text) is not None and grading_symbolic.equal(
        f"({degrees.text})\\cdot\\frac{{\\pi}}{{180}}", other.text
    )


@lru_cache(20_000)
def _compact_same(answer: str, gold: str) -> bool:
    return _compact(answer) == _compact(gold)


def _same_text(answer: str, gold: str) -> bool:
    if _compact_same(answer, gold):
        return True
    if not answer or not _MATHEMATICAL.search(answer) or not _MATHEMATICAL.search(gold):
        return False
    residues = read_residue(answer), read_residue(gold)
    if residues[0] or residues[1]:
        return _same_residue(answer, gold)
    regions = read_region(answer), read_region(gold)
    if regions[0] and regions[1] and (regions[0].certain or regions[1].certain):
        named = regions[0].variable, regions[1].variable
        return not (all(named) and named[0] != named[1]) and grading_symbolic.same_region(
            regions[0].union, regions[1].union
        )
    if _joined_otherwise(answer, gold):
        return False
    ratios = terms(answer), terms(gold)
    if ratios[0] or ratios[1]:
        return len(ratios[0]) == len(ratios[1]) and all(
            grading_symbolic.equal(f"({a})\\cdot({ratios[1][0]})", f"({b})\\cdot({ratios[0][0]})")
            for a, b in zip(*ratios, strict=True)
        )
    left, right = read_parts(answer), read_parts(gold)
    if len(left.items) > 1 or len(right.items) > 1 or (left.opening and right.opening):
        return _same_parts(left, right)
    if _other_base(gold) or _other_base(answer):
        return False
    return _same_formula(answer, gold)


def _joined_otherwise(answer: str, gold: str) -> bool:
    """Return True if one side joins by "and" and the other by "or"."""
    signs = [{sign for sign in ("\\land", "\\lor") if sign in text} for text in (answer, gold)]
    return all(signs) and signs[0] != signs[1]


def _same_residue(answer: str, gold: str) -> bool:
    left, right = read_residue(answer), read_residue(gold)
    if left and right and left.modulus != right.modulus:
        return False
    one, other = _read(left.value if left else answer), _read(right.value if right else gold)
    if left and right and one.number and other.number:
        modulus = _read(left.modulus).number
        return modulus is not None and (one.number.value - other.number.value) % modulus.value == 0
    reduced = left if left else right
    if (
        reduced
        and reduced.operation
        and one.number
        and other.number
        and (modulus := _read(reduced.modulus).number)
    ):
        value, rest = (one, other) if left else (other, one)
        assert value.number is not None
        assert rest.number is not None
        return value.number.value % modulus.value == rest.number.value
    return same(one, other)


def _same_formula(answer: str, gold: str) -> bool:
    """Compare two single formulas or equations."""
    left, right = read_equation(answer), read_equation(gold)
    if left and right and not left.constant and not right.constant:
        if left.name == right.name:
            return _same_item(left.value, right.value)
        if left.variable and right.variable and left.variable == right.variable:
            return _same_item(left.value, right.value)
        return _equations_agree(left, right)
    # The value of a named quantity is its right side. An equation such as 2x + z = 1 has no such value.
    one = left.value if left else answer
    other = right.value if right and right.states_value else gold
    if (left or right) and (one, other) != (answer, gold):
        return _same_item(one, other)
    # A remaining $ would end the formula: of "17$ then $18" only the last part would be read.
    return grading_symbolic.equal(answer.replace("$", " "), gold.replace("$", " "))


def _equations_agree(left: Equation, right: Equation) -> bool:
    if left.words or right.words:
        return _same_item(left.value, right.value)
    return grading_symbolic.same_equation((left.name, left.value), (right.name, right.value))


def _same_parts(left: Parts, right: Parts) -> bool:
    """Compare two collections.

    Tuples and intervals are compared in order and need equal brackets. Sets and bare lists match in any
    order. One value in several forms ("15.975, or 639/40") equals that value. Different labels
    ("x = 1, y = 2") determine the order.
    """
    if not left.opening and not right.opening and len(right.items) == 1:
        return all(_same_item(item, right.items[0]) for item in left.items[:_MAX_PARTS])
    if max(len(left.items), len(right.items)) > _MAX_PARTS:
        return False
    # A set holds an element once.
    if left.opening == right.opening == "\\{":
        return all(
            any(_same_item(item, other) for other in others)
            for items, others in ((left.items, right.items), (right.items, left.items))
            for item in items
        )
    if len(left.items) != len(right.items):
        return False
    if left.labels and right.labels:
        if sorted(left.labels) != sorted(right.labels):
            return False
        places = [left.labels.index(label) for label in right.labels]
        return all(
            _same_item(left.items[place], item) for place, item in zip(places, right.items, strict=True)
        )
    ordered = (
        any(opening in ("(", "[") for opening in (left.opening, right.opening)) or left.labels or right.labels
    )
    if ordered:
        bare = not left.opening or not right.opening
        brackets_agree = bare or (left.opening, left.closing) == (right.opening, right.closing)
        return brackets_agree and all(map(_same_item, left.items, right.items))
    unmatched = list(right.items)
    for item in left.items:
        twin = next((other for other in unmatched if _same_counted(item, other)), None)
        if twin is None:
            return False
        unmatched.remove(twin)
    return True


def _same_counted(left: str, right: str) -> bool:
    """Compare items of unordered lists.

    In "3 red and 2 blue" the word identifies the item.
    """
    one, other = _read(left), _read(right)
    named = one.unit and other.unit and not (one.measure or other.measure)
    if named and one.unit.casefold().rstrip("s.") != other.unit.casefold().rstrip("s."):
        return False
    return same(one, other)


def _same_item(left: str, right: str) -> bool:
    return same(_read(left), _read(right))


def _compact(text: str) -> str:
    """Normalise `text` for a comparison by characters.

    It removes spaces and idle braces, lowers the case of words, and writes "(C)" as "C".
    """
    letter = _LETTER.match(text.strip())
    if letter:
        return letter[1].casefold()
    text = _REMAINDER.sub(r"\1 remainder \2", _TEXT_BASE.sub(_base, text))
    text = _WORD.sub(lambda word: word.group().casefold(), _ARTICLE.sub("", text))
    return _IDLE_BRACES.sub(r"\1\2", _LOOSE_SPACE.sub("", text)).rstrip(".")


def _base(match: re.Match[str]) -> str:
    return f"_{{{in_digits(match[1])}}}"


def _other_base(text: str) -> bool:
    """Return True for a numeral with its base, 52_8.

    Its digits alone are another number, so characters decide.
    """
    return re.search(r"(?<![A-Za-z])\d\s*_\s*\{?\s*\d", text) is not None and "log" not in text
