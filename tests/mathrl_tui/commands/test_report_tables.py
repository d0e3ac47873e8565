"""Tables of evaluations: "cut off" and "no answer" counted apart, and only what applies to a task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mathrl_tui.commands.report import evaluation_table
from mathrl_tui.core import rates
from store.comparison import compare_arms
from store.records import SCORED, Example, Record
from store.score_files import InputError
from tests.store.test_measures import document, journaled


def written(number: int, outcome: str, finish: str) -> Example:
    right = outcome == "correct"
    answer = "" if outcome in ("no_answer", "truncated") else "7"
    return Example("base", 5, "gsm8k", f"q{number}", 0, right, float(right), outcome, "p", "o", 10, "7", answer,
                   finish=finish)  # fmt: skip


def chosen(task: str, number: int, score: float, cut: int = 0) -> Example:
    outcome = SCORED if task == "truthfulqa_mc2" else "correct" if score else "wrong"
    return Example("base", 5, task, f"d{number}", 0, outcome == "correct", score, outcome, "p", "B", 0, "B", "B",
                   prompt_cut=cut, window_tokens=512)  # fmt: skip


# Five ran into the limit: one holds the right answer, one a wrong one, three none. One ended without an answer.
COMPLETIONS = [
    written(number, outcome, finish)
    for number, (outcome, finish) in enumerate(
        [("correct", "length"), ("wrong", "length"), *[("truncated", "length")] * 3, ("no_answer", "stop")]
        + [("correct", "stop")] * 4
    )
]


def test_columns_hold_what_applies_to_each_task(tmp_path: Path) -> None:
    rows: list[Record] = [*COMPLETIONS]
    rows += [chosen("mmlu", n, float(n % 2), cut=40 * (n == 3)) for n in range(8)]
    rows += [chosen("truthfulqa_mc2", n, score) for n, score in enumerate((0.25, 0.99999, 0.5))]
    rows += [document("base", n, -300.0) for n in range(8)]
    found = journaled(tmp_path, rows, "base").evaluations("r")
    by_task = {row.task: row for row in found}
    gsm8k, mmlu, shares = by_task["gsm8k"], by_task["mmlu"], by_task["truthfulqa_mc2"]
    assert (gsm8k.cut_off, gsm8k.no_answer, gsm8k.correct) == (5, 4, 5)
    assert (mmlu.cut_off, mmlu.no_answer, mmlu.mean_tokens, mmlu.pass_at_k, mmlu.correct) == (None,) * 4 + (
        4,
    )
    assert (mmlu.prompts_cut, mmlu.window_tokens) == (1, 512)
    assert (shares.correct, shares.pass_at_k, shares.prompts_cut) == (None, None, 0)
    lines = {line.split()[1]: line.split() for line in evaluation_table(found).splitlines()}
    assert lines["task"][-8:] == ["cut", "off", "no", "answer", "words", "window", "prompts", "cut"]
    # tokens, cut off, no answer, words, window, prompts cut
    assert lines["gsm8k"][-6:] == ["10", "5", "4", "–", "–", "–"]
    assert lines["mmlu"][-6:] == ["–", "–", "–", "–", "512", "1"]
    assert lines["wikitext"][-6:] == ["–", "–", "–", "176", "–", "–"]
    markdown = {line.split()[1]: line for line in rates.markdown(found).splitlines()[2:]}
    assert markdown["gsm8k"].endswith("| 5 | 4 |  |  |")
    assert markdown["mmlu"].endswith("|  |  | 1 | 512 |")


def test_arms_that_read_other_windows_are_not_compared_where_it_matters(tmp_path: Path) -> None:
    def read(arm: str, size: int, cut: int) -> list[Record]:
        pages = [replace(document(arm, n, -300.0 - n), window_tokens=size) for n in range(8)]
        return [
            *pages,
            *(replace(chosen("mmlu", n, 1.0, cut), arm=arm, window_tokens=size) for n in range(8)),
        ]

    store = journaled(tmp_path, [*read("base", 512, 0), *read("sft", 512, 0), *read("grpo", 640, 0)], "base")
    assert [row.task for row in compare_arms(store, "r/base", "r/sft", resamples=500)] == ["mmlu", "wikitext"]
    with pytest.raises(
        InputError, match="task wikitext: r/base read windows of 512 tokens and r/grpo of 640"
    ):
        compare_arms(store, "r/base", "r/grpo", resamples=500)


def test_words_say_score_of_shares_and_how_many_were_cut_off(tmp_path: Path) -> None:
    rows: list[Record] = [*COMPLETIONS, *(chosen("truthfulqa_mc2", n, 0.25 + n / 4) for n in range(3))]
    gsm8k, shares = journaled(tmp_path, rows, "base").evaluations("r")
    assert rates.words(gsm8k, "")[1] == "10 questions, cut off 5 (50.0 %), without an answer 4 (40.0 %)"
    assert "50.0 % mean score" in rates.words(shares, "")[0]
    assert rates.words(shares, "")[1] == "3 questions, window 512 tokens"
