"""Arithmetic word problems in GSM8K's form, made from a seed.

Each has a question, a worked solution that ends in `#### N`, and a guess.
Each problem takes two steps with small numbers. A *skeleton* (template and numbers) belongs to the training or to the
held-out split by its hash, whatever the seed: no held-out problem is a training problem with other names and things.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from engine.data.rows import DataRow
from engine.protocol.messages import derived_seed

Split = Literal["train", "test"]

HELD_OUT_SHARE = 6  # one skeleton in this many is held out
MOST_ROWS = 100_000  # far fewer than there are problems, so that distinct ones are found at once

NAMES = {
    "She": ("Mia", "Lena", "Ruth", "Zoe", "Nina", "Tara", "Anna", "Ella", "Rosa", "Ines"),
    "He": ("Noah", "Omar", "Ivan", "Carl", "Hugo", "Finn", "Adam", "Liam", "Jack", "Emil"),
}
THINGS = (
    *("apples", "books", "coins", "eggs", "pens", "cards", "shells", "stamps", "pears", "marbles"),
    *(
        "cookies",
        "stickers",
        "beads",
        "cups",
        "plums",
        "buttons",
        "ribbons",
        "candles",
        "muffins",
        "balloons",
    ),
)
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Template:
    """A kind of problem.

    `first` gives x from the numbers a, b and c, and `second` gives the answer y.
    """

    first: str  # LEFT OPERATOR RIGHT
    second: str
    question: str
    solution: str

    @property
    def numbers(self) -> str:
        """Which of a, b and c the question holds."""
        return "".join(letter for letter in "abc" if f"{{{letter}}}" in self.question)


# {n} name, {p} She or He, {s} she or he, {i} things.
TEMPLATES = (
    Template(
        "a + b",
        "x - c",
        "{n} has {a} {i}. {p} buys {b} more and then gives {c} to a friend. How many {i} does {n} have now?",
        "{p} had {a} + {b} = {x} {i}.\nNow {s} has {x} - {c} = {y} {i}.",
    ),
    Template(
        "a - b",
        "x + c",
        "{n} had {a} {i} and lost {b} of them. Then {s} found {c} more. How many {i} does {n} have now?",
        "{p} kept {a} - {b} = {x} {i}.\nNow {s} has {x} + {c} = {y} {i}.",
    ),
    Template(
        "a * b",
        "x + c",
        "{n} fills {a} boxes with {b} {i} each and has {c} {i} left over. How many {i} are there in all?",
        "The boxes hold {a} * {b} = {x} {i}.\nIn all there are {x} + {c} = {y} {i}.",
    ),
    Template(
        "a * b",
        "x - c",
        "There are {a} {i} on each of {b} tables. {n} takes {c} of them away. How many {i} are left?",
        "The tables hold {a} * {b} = {x} {i}.\nThere are {x} - {c} = {y} {i} left.",
    ),
    Template(
        "a + b",
        "x + c",
        "{n} picked {a} {i} in the morning, {b} at noon and {c} in the evening. How many {i} did {s} pick in all?",
        "By noon {s} had {a} + {b} = {x} {i}.\nIn all {s} picked {x} + {c} = {y} {i}.",
    ),
    Template(
        "a - b",
        "x - c",
        "A bag holds {a} {i}. {n} takes out {b} and a friend takes out {c}. How many {i} are left in the bag?",
        "After {n} there are {a} - {b} = {x} {i}.\nThere are {x} - {c} = {y} {i} left.",
    ),
    Template(
        "a + b",
        "x + a",
        "{n} has {a} {i}. A friend has {b} more than {n}. How many {i} do they have together?",
        "The friend has {a} + {b} = {x} {i}.\nTogether they have {x} + {a} = {y} {i}.",
    ),
    Template(
        "a - b",
        "x + a",
        "{n} has {a} {i}. A friend has {b} fewer than {n}. How many {i} do they have together?",
        "The friend has {a} - {b} = {x} {i}.\nTogether they have {x} + {a} = {y} {i}.",
    ),
    Template(
        "a * b",
        "x + c",
        "A shop sells {i} for {a} dollars each. {n} buys {b} of them and has {c} dollars left. "
        "How many dollars did {s} have at first?",
        "The {i} cost {a} * {b} = {x} dollars.\nAt first {s} had {x} + {c} = {y} dollars.",
    ),
    Template(
        "a * b",
        "x - c",
        "{n} earns {a} dollars a day for {b} days and spends {c} dollars on {i}. How many dollars are left?",
        "{p} earned {a} * {b} = {x} dollars.\nThere are {x} - {c} = {y} dollars left.",
    ),
    Template(
        "b + c",
        "a - x",
        "{n} needs {a} {i}. {p} has {b} at home and {c} at school. How many more {i} does {n} need?",
        "{p} has {b} + {c} = {x} {i}.\nNow {s} needs {a} - {x} = {y} {i}.",
    ),
    Template(
        "a + b",
        "x + c",
        "{n} read {a} pages on Monday and {b} pages more than that on Tuesday. {p} read {c} pages on Friday. "
        "How many pages did {s} read on Tuesday and Friday?",
        "On Tuesday {s} read {a} + {b} = {x} pages.\nIn all {s} read {x} + {c} = {y} pages.",
    ),
    Template(
        "a - b",
        "x + c",
        "A bus with {a} people and {n} at the wheel stops. {b} people get off and {c} get on. "
        "How many people ride with {n} now?",
        "There are {a} - {b} = {x} people left.\nNow there are {x} + {c} = {y} people.",
    ),
    Template(
        "a * b",
        "x + c",
        "{n} gives {a} {i} to each of {b} friends and {c} to a teacher. How many {i} does {n} give away?",
        "The friends get {a} * {b} = {x} {i}.\nIn all {s} gives {x} + {c} = {y} {i}.",
    ),
    Template(
        "a + b",
        "x - c",
        "A shelf holds {a} red {i} and {b} blue {i}. {n} takes {c} of them down. How many {i} are left on the shelf?",
        "The shelf holds {a} + {b} = {x} {i}.\nThere are {x} - {c} = {y} {i} left.",
    ),
    Template(
        "a - b",
        "x - c",
        "{n} baked {a} cakes. {p} sold {b} in the morning and {c} at noon. How many cakes did {s} have left?",
        "By noon {s} had {a} - {b} = {x} cakes.\nThere are {x} - {c} = {y} cakes left.",
    ),
    Template(
        "a - b",
        "x * c",
        "{n} has {a} {i} and keeps {b} of them. The rest are sold for {c} dollars each. How many dollars does {n} get?",
        "{p} sold {a} - {b} = {x} {i}.\nIn all {s} gets {x} * {c} = {y} dollars.",
    ),
    Template(
        "b * c",
        "a - x",
        "{n} has {a} dollars and buys {b} {i} for {c} dollars each. How many dollars are left?",
        "The {i} cost {b} * {c} = {x} dollars.\nThere are {a} - {x} = {y} dollars left.",
    ),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem and its worked solution, which ends in `#### answer`."""

    kind: int  # index into TEMPLATES
    question: str
    worked: str
    answer: int

    def guess(self, rng: random.Random) -> str:
        """A solution that shows no work: one of the question's numbers.

        About one time in twenty it is the answer.
        """
        return f"#### {rng.choice(_NUMBER.findall(self.question))}"

    def row(self, ex_id: str) -> DataRow:
        """The problem as a row of a data set."""
        return DataRow(ex_id, self.question, self.worked, str(self.answer))


def problems(seed: int, count: int, split: Split) -> list[DataRow]:
    """Make `count` distinct problems of a split.

    Raises: ValueError if `count` exceeds MOST_ROWS.
    """
    if count > MOST_ROWS:
        raise ValueError(f"word-problems: {count:,} rows asked for; at most {MOST_ROWS:,} can be made")
    distinct: dict[str, Problem] = {}
    for problem in endless(random.Random(derived_seed("word-problems", seed, split)), split):
        distinct.setdefault(problem.question, problem)
        if len(distinct) == count:
            break
    return [problem.row(f"{split}-{index}") for index, problem in enumerate(distinct.values())]


def endless(rng: random.Random, split: Split) -> Iterator[Problem]:
    """Yield problems of a split without end; one may occur again."""
    while True:
        kind = rng.randrange(len(TEMPLATES))
        values = _values(TEMPLATES[kind], rng)
        while is_held_out(kind, values) != (split == "test"):
            values = _values(TEMPLATES[kind], rng)
        yield _told(kind, values, rng)


def is_held_out(kind: int, values: dict[str, int]) -> bool:
    """Return True if a skeleton belongs to the held-out split.

    A skeleton is template `kind` with the numbers a, b and c that it uses.
    """
    skeleton = [kind, *(values[letter] for letter in TEMPLATES[kind].numbers)]
    return blake2b(repr(skeleton).encode(), digest_size=8).digest()[0] % HELD_OUT_SHARE == 0


def _values(template: Template, rng: random.Random) -> dict[str, int]:
    """Return numbers a, b, c, x and y, each at least 2.

    One of a thing would need another word.
    They are small: facts that a tiny model learns in a minute.
    """
    factors = "".join(step for step in (template.first, template.second) if "*" in step)
    largest = {"a": 16 if template.second == "a - x" else 12, "b": 6, "c": 6}
    while True:
        values = {
            letter: rng.randint(2, 5 if letter in factors else most) for letter, most in largest.items()
        }
        values["x"] = _apply(template.first, values)
        values["y"] = _apply(template.second, values)
        if min(values.values()) >= 2:
            return values


def _apply(step: str, values: dict[str, int]) -> int:
    left, operator, right = step.split()
    a, b = values[left], values[right]
    return {"+": a + b, "-": a - b, "*": a * b}[operator]


def _told(kind: int, values: dict[str, int], rng: random.Random) -> Problem:
    pronoun = rng.choice(sorted(NAMES))
    words = {
        "n": rng.choice(NAMES[pronoun]),
        "p": pronoun,
        "s": pronoun.lower(),
        "i": rng.choice(THINGS),
    }
    text = {**words, **values}
    template = TEMPLATES[kind]
    worked = f"{template.solution.format(**text)}\n#### {values['y']}"
    return Problem(kind, template.question.format(**text), worked, values["y"])
