"""The filter language of the list of runs.

text ─▶ parse ─▶ Expression ─▶ check (names exist) ─▶ matches(expression, facts of a run)

    state:failed profile:qwen grpo.learning_rate>1e-6 gsm8k>0.7
    tag:paper (seed:1 or seed:2) -reason:"out of memory"

Terms side by side must all hold, `or` joins alternatives, `-` negates, parentheses group. A term is NAME:VALUE
(contains), NAME=VALUE, NAME!=VALUE, NAME>VALUE (also >=, <, <=), or a word that is searched in all texts of a run.
A run without a value of that name does not match the term. Case does not matter. Columns count from 1.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from profiles.errors import UserError

# Names with a fixed set of values, which match as a whole: `state:done` is not done_with_failures.
FIXED = {
    "state": (
        *("queued", "running", "stopping", "paused", "interrupted", "failed", "stopped", "done"),
        *("done_with_failures", "done with failures", "incomplete"),
    ),
    "is": ("live", "ended", "marked", "pinned", "hidden", "alarmed", "changed"),
}
_UNITS = {"": 1.0, "%": 0.01, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_ORDER: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ":": operator.eq,
    "!=": operator.ne,
}
_BLANK = re.compile(r"\s*")
_NAME = re.compile(r"([^\W\d][\w./+-]*)(>=|<=|!=|[:=<>])")
_OPERATOR = re.compile(r">=|<=|!=|[:=<>]")
_WORD = re.compile(r'[^\s()"]+')
_QUOTED = re.compile(r'"([^"]*)"')
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(%|[smhd])?\Z", re.IGNORECASE)


class FilterError(UserError, ValueError):
    """A filter that is not understood; `column` is the place of the fault."""

    def __init__(self, column: int, words: str) -> None:
        super().__init__(f"column {column}: {words}")
        self.column = column


@dataclass(frozen=True, slots=True)
class Facts:
    """What a run is filtered by.

    `words` is the text that single words are searched in. `texts` and `numbers` have the values by name.
    """

    words: str = ""
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Word:
    """The run's texts contain `word`."""

    word: str


@dataclass(frozen=True, slots=True)
class Term:
    """A value `name` of the run compares with `value`; `column` is the name's."""

    name: str
    sign: str
    value: str
    column: int = field(default=1, compare=False)

    @property
    def number(self) -> float | None:
        """Return the value as a number: `70%` is 0.7, `2h` is 7200."""
        found = _NUMBER.match(self.value)
        return None if found is None else float(found[1]) * _UNITS[(found[2] or "").lower()]

    @property
    def value_column(self) -> int:
        """Return the column of the value."""
        return self.column + len(self.name) + len(self.sign)


@dataclass(frozen=True, slots=True)
class Not:
    """`part` does not hold."""

    part: Expression


@dataclass(frozen=True, slots=True)
class Every:
    """All `parts` hold; without parts, every run matches."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of `parts` holds."""

    parts: tuple[Expression, ...]


Expression = Word | Term | Not | Every | Either


def parse(text: str) -> Expression:
    """Return the expression that `text` means.

    An empty text matches every run.

    Raises: FilterError with the column of the fault.
    """
    reader = _Reader(text)
    if not reader.rest:
        return Every(())
    found = reader.alternatives()
    if reader.rest:
        raise FilterError(reader.column, "this parenthesis was not opened")
    return found


def check(expression: Expression, known: Collection[Facts]) -> None:
    """Refuse names and fixed values that no run of `known` can have.

    Raises: FilterError with the column, and the nearest name.
    """
    texts = {name for facts in known for name in facts.texts} | FIXED.keys()
    numbers = {name for facts in known for name in facts.numbers}
    for test in _tests(expression):
        _check(test, texts, numbers)


def matches(expression: Expression, facts: Facts) -> bool:
    """Return True if a run with `facts` passes the filter."""
    match expression:
        case Word(word):
            return word.casefold() in facts.words.casefold()
        case Term():
            return _holds(expression, facts)
        case Not(part):
            return not matches(part, facts)
        case Every(parts):
            return all(matches(part, facts) for part in parts)
        case Either(parts):
            return any(matches(part, facts) for part in parts)


def _holds(test: Term, facts: Facts) -> bool:
    values = facts.numbers.get(test.name, ())
    number = test.number
    if number is not None and any(_compares(test.sign, value, number) for value in values):
        return True
    if test.sign not in (":", "=", "!="):
        return False
    wanted = test.value.casefold()
    found = [text.casefold() for text in facts.texts.get(test.name, ())]
    if test.sign == "!=":
        return bool(found) and wanted not in found
    return wanted in found or (
        test.sign == ":" and test.name not in FIXED and any(wanted in text for text in found)
    )


def _compares(sign: str, value: float, number: float) -> bool:
    if sign in (":", "=", "!="):
        # 70 % is 0.7 up to rounding.
        return math.isclose(value, number, rel_tol=1e-9, abs_tol=0.0) != (sign == "!=")
    return _ORDER[sign](value, number)


def _tests(expression: Expression) -> Iterator[Term]:
    match expression:
        case Term():
            yield expression
        case Not(part):
            yield from _tests(part)
        case Every(parts) | Either(parts):
            for part in parts:
                yield from _tests(part)


def _check(test: Term, texts: Collection[str], numbers: Collection[str]) -> None:
    names = [*texts, *numbers]
    if test.name not in names:
        raise FilterError(
            test.column,
            f"'{test.name}' is not a field, a setting or a task of these runs{_nearest(test.name, names)}",
        )
    values = FIXED.get(test.name, ())
    if values and test.value.casefold() not in values:
        near = _nearest(test.value, values) or f"; it is one of {', '.join(values)}"
        raise FilterError(test.value_column, f"{test.name} is never '{test.value}'{near}")
    ordered = test.sign not in (":", "=", "!=")
    if ordered and test.name not in numbers:
        raise FilterError(
            test.column + len(test.name), f"{test.name} is a text: write {test.name}:{test.value}"
        )
    if test.name not in texts and test.number is None:
        raise FilterError(test.value_column, f"'{test.value}' is not a number: {test.name} is one")


def _nearest(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)" if near else ""


class _Reader:
    """Recursive descent over a filter's text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._skip()

    @property
    def rest(self) -> str:
        """Return the text that is not read yet."""
        return self._text[self._at :]

    @property
    def column(self) -> int:
        """Return the column of the next character."""
        return self._at + 1

    def alternatives(self) -> Expression:
        """Read terms joined by `or`."""
        parts = [self._terms()]
        while self._takes_or():
            parts.append(self._terms())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _terms(self) -> Expression:
        """Read terms side by side; at least one."""
        parts: list[Expression] = []
        while self.rest and not self.rest.startswith(")") and not self._is_or():
            parts.append(self._term())
        if not parts:
            raise FilterError(self.column, "a term is missing here")
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _term(self) -> Expression:
        begin = self.column
        if self._takes("-"):
            if not self.rest or self.rest[0].isspace() or self.rest[0] == ")":
                raise FilterError(begin, "'-' negates the term after it, and none follows")
            return Not(self._term())
        if self._takes("("):
            found = self.alternatives()
            if not self._takes(")"):
                raise FilterError(begin, "this parenthesis is not closed")
            self._skip()
            return found
        return self._test() or Word(self._value("a word"))

    def _test(self) -> Term | None:
        begin = self.column
        if found := _OPERATOR.match(self._text, self._at):
            raise FilterError(begin, f"a name is missing before '{found[0]}'")
        found = _NAME.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return Term(found[1], found[2], self._value(f"a value after '{found[2]}'"), begin)

    def _value(self, what: str) -> str:
        begin = self.column
        if found := _QUOTED.match(self._text, self._at):
            value = found[1]
        elif self.rest.startswith('"'):
            raise FilterError(begin, "this quotation mark is not closed")
        elif found := _WORD.match(self._text, self._at):
            value = found[0]
        else:
            raise FilterError(begin, f"{what} is missing here")
        self._at = found.end()
        self._skip()
        return value

    def _is_or(self) -> bool:
        return re.match(r"or(?=[\s()]|\Z)", self.rest, re.IGNORECASE) is not None

    def _takes_or(self) -> bool:
        if not self._is_or():
            return False
        self._at += len("or")
        self._skip()
        return True

    def _takes(self, sign: str) -> bool:
        if not self.rest.startswith(sign):
            return False
        self._at += len(sign)
        if sign == "(":
            self._skip()
        return True

    def _skip(self) -> None:
        found = _BLANK.match(self._text, self._at)
        self._at = found.end() if found else self._at
