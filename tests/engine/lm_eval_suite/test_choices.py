"""What a multiple-choice row shows: the choice that its measure counts, and the right one; samples by hand."""

from __future__ import annotations

from typing import Any

import pytest

from engine.lm_eval_suite.choices import choices_of
from engine.lm_eval_suite.rows import RowOrigin, rows
from mathrl_tui.core import answers
from store.records import SCORED, Example

LEAF = RowOrigin("base", 0, "t", "t", window=512)
PROMPT = "Ann saw Bo.\n\nAnn met Anna since"  # a worked example before the question


def sample(
    pairs: list[tuple[str, str]], likelihoods: list[float], gold: Any, **measures: Any
) -> dict[str, Any]:
    return {
        "doc_id": 0,
        "doc": {},
        "target": gold,
        "arguments": pairs,
        "resps": [[(value, False)] for value in likelihoods],
        "filter": "none",
        "metrics": list(measures),
        **measures,
    }


def of(row: Example) -> tuple[str, str, str]:
    return row.outcome, row.answer, row.gold


def test_each_measure_shows_the_choice_that_it_counts() -> None:
    pairs = [("Q", " no"), ("Q", " certainly not")]
    asked = sample(pairs, [-3.0, -9.0], 1, acc=0.0, acc_norm=1.0)  # -3 / 2 letters against -9 / 13
    first, normalised = rows(LEAF, [asked], {})
    assert of(first) == ("wrong", "no", "certainly not")
    assert of(normalised) == ("correct", "certainly not", "certainly not")
    assert (first.output, normalised.output, first.window_tokens) == ("no", "", 512)


def test_choices_without_their_context_are_subtracted_for_mutual_information() -> None:
    pairs = [("Q", " A"), ("Q", " B"), ("", " A"), ("", " B")]
    asked = sample(pairs, [-1.0, -2.0, -0.5, -4.0], 1, acc=0.0, acc_mutual_info=1.0)
    first, mutual = rows(LEAF, [asked], {})
    assert [of(first)[1:], of(mutual)[1:]] == [("A", "B"), ("B", "B")]


def test_choices_in_the_context_are_shown_from_the_first_other_word_on() -> None:
    pairs = [(f"{PROMPT} Ann", " was late."), (f"{PROMPT} Anna", " was late.")]
    (row,) = rows(LEAF, [sample(pairs, [-2.0, -1.0], " was late.", acc=0.0) | {"gold": 0}], {})
    assert of(row) == ("wrong", "Anna", "Ann")


def test_the_right_choice_is_found_by_number_by_text_and_among_several() -> None:
    pairs = [("Q", " red"), ("Q", " blue"), ("Q", " 1")]
    found = [
        choices_of(sample(pairs, [-1.0, -2.0, -3.0], gold)) for gold in (1, "blue", "1", [0, 1], 7, "green")
    ]
    assert [each.right({"gold": gold}) for each, gold in zip(found, (1, "blue", "1", [0, 1], 7, "green"), strict=True)
            if each is not None] == [[1], [1], [2], [0, 1], [], []]  # fmt: skip


def test_a_choice_that_contradicts_the_tasks_own_verdict_is_not_shown() -> None:
    (row,) = rows(LEAF, [sample([("Q", " A"), ("Q", " B")], [-1.0, -2.0], 1, acc=1.0)], {})
    assert of(row) == ("correct", "", "B")


def test_a_share_has_no_verdict_and_keeps_its_score() -> None:
    pairs = [("Q", " yes"), ("Q", " no")]
    asked = [
        sample(pairs, [-1.0, -2.0], 0, acc=score) | {"doc_id": n}
        for n, score in enumerate((0.99999, 1.0, 0.83))
    ]
    found = list(rows(LEAF, asked, {}))
    assert {row.outcome for row in found} == {SCORED} and not any(row.correct for row in found)
    assert [answers.verdict(row) for row in found] == ["score >0.99", "score 1.00", "score 0.83"]
    assert answers.labelled(found[0]) == [("right", "yes"), ("chosen", "yes")]
    assert answers.size(found[0]) == ""


def test_a_prompt_that_was_cut_is_recorded_as_it_was_asked() -> None:
    def asked(context: str, continuation: str) -> tuple[str, int]:
        return (context[-2:], 7) if continuation == " no" else (context[-3:], 5)

    (row,) = rows(
        LEAF, [sample([("a long Q", " yes"), ("a long Q", " no")], [-1.0, -2.0], 0, acc=1.0)], {}, asked
    )
    assert (row.prompt, row.prompt_cut) == ("g Q", 7)
    assert answers.prompt_note(row) == "prompt cut by 7 tokens at its start"


@pytest.mark.parametrize(
    ("filtered", "finish", "expected"),
    [
        ("7", "length", ("wrong", "7")),  # it holds an answer, though it was cut off
        ("[invalid]", "length", ("truncated", "")),
        ("[invalid]", "stop", ("no_answer", "")),
        (
            "so 7",
            "length",
            ("truncated", ""),
        ),  # the scorer extracts nothing: it is not known to hold an answer
        ("so 7", "stop", ("wrong", "")),
    ],
)
def test_a_stock_scorers_answer_is_what_its_filter_extracted(
    filtered: str, finish: Any, expected: tuple[str, str]
) -> None:
    import numpy as np

    from engine.generators.interface import Generated

    written = {
        "doc_id": 0, "doc": {}, "target": "8", "arguments": [("2 * 4?", {"until": []})], "resps": [["so 7"]],
        "filtered_resps": [filtered], "filter": "none", "metrics": ["exact_match"], "exact_match": 0.0,
    }  # fmt: skip
    made = Generated(0, 0, np.zeros(3, np.int32), np.zeros(3, np.float32), finish)
    (row,) = rows(LEAF, [written], {("t", 0): made})
    assert (row.outcome, row.answer) == expected
    assert (row.finish, row.tokens) == (finish, 3)
