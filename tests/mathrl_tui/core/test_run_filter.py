"""The filter language: against a brute-force evaluation, and faults by their column."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathrl_tui.core.run_filter import (
    Either,
    Every,
    Expression,
    Facts,
    FilterError,
    Not,
    Term,
    Word,
    check,
    matches,
    parse,
)

TEXTS = ("profile", "tag")
NUMBERS = ("seed", "grpo.learning_rate")
WORDS = ("qwen", "demo", "Paper", "or", "two words", "x-y")
VALUES = (0.0, 1.0, 1e-6, 5e-6, 0.7)

words = st.sampled_from(WORDS)
tests = st.one_of(
    st.builds(Term, st.sampled_from(TEXTS), st.sampled_from((":", "=", "!=")), words),
    st.builds(
        Term,
        st.sampled_from(NUMBERS),
        st.sampled_from((":", "=", "!=", "<", "<=", ">", ">=")),
        st.sampled_from([repr(value) for value in VALUES]),
    ),
)
expressions: st.SearchStrategy[Expression] = st.recursive(
    st.one_of(st.builds(Word, words), tests),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(Every, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Either, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)
facts = st.builds(
    Facts,
    st.lists(words).map(" ".join),
    st.dictionaries(st.sampled_from(TEXTS), st.lists(words, max_size=2).map(tuple)),
    st.dictionaries(st.sampled_from(NUMBERS), st.lists(st.sampled_from(VALUES), max_size=2).map(tuple)),
)


def written(expression: Expression) -> str:
    """The expression as a user may write it."""
    match expression:
        case Word(word):
            return f'"{word}"'
        case Term(name, sign, value):
            return f'{name}{sign}"{value}"'
        case Not(part):
            return f"-({written(part)})"
        case Every(parts):
            return " ".join(f"({written(part)})" for part in parts)
        case Either(parts):
            return " or ".join(f"({written(part)})" for part in parts)


def truth(expression: Expression, run: Facts) -> bool:
    """What an expression means, by eval of Python and plain loops."""
    match expression:
        case Word(word):
            return word.lower() in run.words.lower()
        case Term(name, sign, value) if name in NUMBERS:
            python = {":": "==", "=": "=="}.get(sign, sign)
            return any(eval(f"{have!r} {python} {value}") for have in run.numbers.get(name, ()))
        case Term(name, sign, value):
            have = [one.lower() for one in run.texts.get(name, ())]
            if sign == "!=":
                return len(have) > 0 and all(one != value.lower() for one in have)
            return any(one == value.lower() if sign == "=" else value.lower() in one for one in have)
        case Not(part):
            return not truth(part, run)
        case Every(parts):
            return False not in [truth(part, run) for part in parts]
        case Either(parts):
            return True in [truth(part, run) for part in parts]


@given(expressions, facts)
def test_a_filter_selects_what_brute_force_selects(expression: Expression, run: Facts) -> None:
    assert matches(parse(written(expression)), run) == truth(expression, run)


@given(st.text(alphabet=string.ascii_letters + '0123456789 "():=<>-.%', max_size=30))
def test_any_text_is_understood_or_refused_at_a_column_of_it(text: str) -> None:
    try:
        parse(text)
    except FilterError as error:
        assert 1 <= error.column <= len(text) + 1
        assert str(error).startswith(f"column {error.column}: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Every(())),
        ("a b", Every((Word("a"), Word("b")))),
        ("a b or c", Either((Every((Word("a"), Word("b"))), Word("c")))),
        ("-a:b", Not(Term("a", ":", "b"))),
        ("--a", Not(Not(Word("a")))),
        ("x-y", Word("x-y")),
        ("order", Word("order")),
        ("a OR (b c)", Either((Word("a"), Every((Word("b"), Word("c")))))),
        ("grpo/gsm8k>=70%", Term("grpo/gsm8k", ">=", "70%")),
        ("2026-01-01", Word("2026-01-01")),
    ],
)
def test_forms_of_a_filter(text: str, expected: Expression) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("value", "number"),
    [("70%", 0.7), ("2h", 7200.0), ("1.5m", 90.0), ("1e-6", 1e-6), (".5", 0.5), ("-3", -3.0), ("x", None)],
)
def test_values_have_units(value: str, number: float | None) -> None:
    found = Term("took", ">", value).number
    assert found == (None if number is None else pytest.approx(number))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a or", "column 5: a term is missing here"),
        ("or a", "column 1: a term is missing here"),
        ("a )", "column 3: this parenthesis was not opened"),
        ("a (b", "column 3: this parenthesis is not closed"),
        ('a "b', "column 3: this quotation mark is not closed"),
        ("a >3", "column 3: a name is missing before '>'"),
        ("seed>", "column 6: a value after '>' is missing here"),
        ("a - b", "column 3: '-' negates the term after it, and none follows"),
    ],
)
def test_what_is_not_understood_is_named_at_its_column(text: str, words: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert str(caught.value) == words


RUN = Facts(
    "demo-s1", {"state": ("failed", "live"), "profile": ("demo",)}, {"gsm8k": (0.4, 0.7), "seed": (1.0,)}
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed:1 gsmk8>1", "column 8: 'gsmk8' is not a field, a setting or a task of these runs (did you mean gsm8k?)"),
        ("state:faild", "column 7: state is never 'faild' (did you mean failed?)"),
        ("profile>3", "column 8: profile is a text: write profile:3"),
        ("-seed:x", "column 7: 'x' is not a number: seed is one"),
    ],
)  # fmt: skip
def test_unknown_names_are_refused_with_the_nearest(text: str, words: str) -> None:
    with pytest.raises(FilterError) as caught:
        check(parse(text), [RUN])
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("text", "holds"),
    [("state:failed", True), ("state:fail", False), ("gsm8k>0.6", True), ("gsm8k>70%", False), ("gsm8k:70%", True)],
)  # fmt: skip
def test_fixed_values_match_as_a_whole_and_numbers_by_any_arm(text: str, holds: bool) -> None:
    assert matches(parse(text), RUN) is holds
