"""Word problems: every worked solution is computed again here, and no held-out skeleton is ever trained on."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest

from engine.data.rows import DataRow
from engine.data.word_problems import TEMPLATES, THINGS, Split, endless, problems
from engine.grading import grade

EQUATION = re.compile(r"(\d+) ([-+*]) (\d+) = (\d+)")
COMPUTED = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
A_THING = "|".join(THINGS)


def skeleton(question: str) -> str:
    """A question without its names, pronouns and things: what is left tells template and numbers apart."""
    plain = re.sub(rf"\b({A_THING})\b", "THING", question)
    return re.sub(
        r"\b(?!A\b|THING\b|There\b|How\b|The\b|Then\b|At\b)[A-Z][a-z]+\b|\b(she|he)\b", "NAME", plain
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_worked_solutions_are_right(split: Split) -> None:
    for row in problems(3, 1500, split):
        first, second, final = row.solution.split("\n")
        results = []
        for line in (first, second):
            found = EQUATION.search(line)
            assert found, line
            left, operator, right, result = found.groups()
            assert COMPUTED[operator](int(left), int(right)) == int(result), line
            results.append(result)
        asked = set(re.findall(r"\d+", row.question))
        assert set(re.findall(r"\d+", first)) - {results[0]} <= asked, (row.question, first)
        assert set(re.findall(r"\d+", second)) - {results[1]} <= asked | {results[0]}, (row.question, second)
        assert results[0] in EQUATION.search(second).groups()[::2]  # type: ignore[union-attr]
        assert final == f"#### {results[1]}"
        assert row.answer == results[1]
        assert "{" not in row.question + row.solution


def test_the_grader_accepts_every_worked_solution() -> None:
    for row in problems(1, 300, "test"):
        assert grade(row.solution, row.answer).outcome == "correct"


def test_splits_share_no_skeleton_under_any_seeds() -> None:
    trained = {skeleton(row.question) for seed in range(4) for row in problems(seed, 4000, "train")}
    held_out = {skeleton(row.question) for seed in range(4) for row in problems(seed, 1000, "test")}
    assert len(held_out) > 400
    assert not trained & held_out


def test_rows_are_distinct_and_follow_from_the_seed_in_another_process() -> None:
    rows = problems(7, 2000, "train")
    assert len({row.question for row in rows}) == 2000
    assert problems(8, 2000, "train") != rows
    assert problems(7, 50, "train") == rows[:50]
    program = "from engine.data.word_problems import problems; print(problems(7, 2000, 'train')[-1])"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(rows[-1])


def test_every_template_is_used_in_both_splits() -> None:
    def shape(row: DataRow) -> str:
        return re.sub(r"\d+", "N", skeleton(row.question))

    for split in ("train", "test"):
        assert len(Counter(shape(row) for row in problems(0, 2000, split))) == len(TEMPLATES)


def test_a_guess_shows_no_work_and_is_seldom_right() -> None:
    rng = random.Random(0)
    made = [(problem, problem.guess(rng)) for problem in islice(endless(rng, "train"), 4000)]
    for problem, guess in made:
        assert guess.removeprefix("#### ") in re.findall(r"\d+", problem.question)
    right = sum(grade(guess, str(problem.answer)).correct for problem, guess in made)
    assert 0.02 < right / len(made) < 0.08


def test_more_rows_than_can_be_made_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 100,000"):
        problems(0, 100_001, "train")
