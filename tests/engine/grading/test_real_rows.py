"""The grader on real rows: every GSM8K and MATH-500 solution, and answers that DeepSeek-R1 gave."""

from __future__ import annotations

import json
import re
import time

import pytest

from engine.grading import grade
from tests.support.places import SHARED

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="MATHRL_SHARED names no folder")


def _gsm8k() -> list[str]:
    files = (SHARED / "data/gsm8k" / name for name in ("train.jsonl", "test.jsonl"))
    return [json.loads(line)["answer"] for path in files for line in path.open()]


def test_every_gsm8k_solution_is_correct_and_its_neighbours_are_wrong() -> None:
    solutions = _gsm8k()
    assert len(solutions) == 7473 + 1319
    for solution in solutions:
        gold = solution.rsplit("#### ", 1)[1].strip()
        value = int(gold.replace(",", ""))
        assert grade(solution, gold).correct
        assert grade(f"\\boxed{{{value}.00\\text{{ dollars}}}}", solution).correct
        for wrong in (value + 1, value - 1, f"{value} or {value + 1}"):
            assert grade(f"So it is \\boxed{{{wrong}}}.", gold).outcome == "wrong"


def test_a_gsm8k_verdict_takes_microseconds() -> None:
    solutions = _gsm8k()[:2000]
    pairs = [(solution, solution.rsplit("#### ", 1)[1].strip()) for solution in solutions]
    best = min(_seconds(pairs) for _ in range(3))
    assert best / len(pairs) < 50e-6


def _seconds(pairs: list[tuple[str, str]]) -> float:
    started = time.perf_counter()
    for solution, gold in pairs:
        grade(solution, gold)
    return time.perf_counter() - started


def test_every_math500_solution_is_correct_and_a_changed_number_is_wrong() -> None:
    lines = (SHARED / "data/lm_eval/hendrycks_math/math500/test.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 500
    assert [row["answer"] for row in rows if not grade(row["solution"], row["answer"]).correct] == []
    for gold in (row["answer"] for row in rows):
        number = re.search(r"\d+", gold)
        if number is not None:
            changed = gold[: number.start()] + str(int(number[0]) + 1) + gold[number.end() :]
            assert grade(f"\\boxed{{{changed}}}", gold).outcome == "wrong", gold


def test_real_r1_answers_are_correct() -> None:
    for row in json.loads((SHARED / "data/deepseek_r1_sample.json").read_text()):
        whole = f"<think>\n{row['message_thinking']}</think>\n\n{row['message_content']}"
        assert grade(whole, row["gtruth_answer"]).correct
