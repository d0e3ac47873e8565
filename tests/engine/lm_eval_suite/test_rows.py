"""From lm-eval's samples to rows, by samples written by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from engine.generators.interface import Generated
from engine.lm_eval_suite.rows import RowOrigin, rows
from store.records import LOGLIKELIHOOD, SCORED

LEAF = RowOrigin("base", 0, "t", "t")


def sample(number: int, **measures: Any) -> dict[str, Any]:
    """Document `number` of a multiple choice between two answers, with the values of its measures."""
    return {
        "doc_id": number,
        "doc": {"question": f"q{number}"},
        "target": "0",
        "arguments": [(f"q{number}", " yes"), (f"q{number}", " no")],
        "resps": [[(-3.0, False)], [(-1.0, True)]],
        "filter": "none",
        "metrics": list(measures),
        **measures,
    }


def test_a_share_that_rounding_has_carried_past_one_is_one() -> None:
    # 817 questions of TruthfulQA and a random model: three sums of probabilities came out as 1 + 2e-16.
    found = list(rows(LEAF, [sample(0, acc=np.float64(1.0000000000000002)), sample(1, acc=0.4)], {}))
    assert [(row.score, row.correct, row.outcome) for row in found] == [
        (1.0, False, SCORED),
        (0.4, False, SCORED),
    ]
    assert (found[0].output, found[0].answer, found[0].gold) == (
        "no",
        "no",
        "yes",
    )  # the likelier, the right one


def test_a_document_without_a_value_stays_in_the_denominator() -> None:
    found = list(rows(LEAF, [sample(0, acc=math.nan), sample(1, acc=1.0)], {}))
    assert [(row.ex_id, row.score, row.correct, row.outcome) for row in found] == [
        ("t:0", 0.0, False, "error"),
        ("t:1", 1.0, True, "correct"),
    ]


@pytest.mark.parametrize(
    "values", [(math.nan, math.nan), (27.5, 0.4), ("a", "b"), (-0.5, 0.5), (math.inf, 1.0)]
)
def test_what_is_no_share_of_a_document_makes_no_rows(values: tuple[Any, Any]) -> None:
    assert not list(rows(LEAF, [sample(place, m=value) for place, value in enumerate(values)], {}))


def test_a_perplexity_is_a_loglikelihood_whatever_its_value() -> None:
    samples = [sample(0, word_perplexity=(-7.5, 3)), sample(1, word_perplexity=(0.0, 2))]
    found = list(rows(LEAF, samples, {}))
    assert [(row.score, row.tokens, row.outcome) for row in found] == [
        (-7.5, 3, LOGLIKELIHOOD),
        (0.0, 2, LOGLIKELIHOOD),
    ]
    alone = list(rows(LEAF, [sample(0, perplexity=0.5), sample(1, perplexity=math.nan)], {}))
    assert [(row.tokens, row.outcome) for row in alone] == [(1, LOGLIKELIHOOD)] * 2
    assert alone[0].score == 0.5 and math.isnan(alone[1].score)


def test_a_generated_answer_has_its_tokens_and_says_where_it_was_cut() -> None:
    def written(number: int, text: str, right: float) -> dict[str, Any]:
        asked: dict[str, Any] = {"arguments": [("2 + 2?", {"until": []})], "resps": [[text]]}
        return sample(number, exact_match=right) | asked | {"doc": {"answer": "4"}}

    def answer(tokens: int, finish: Any) -> Generated:
        return Generated(0, 0, np.zeros(tokens, np.int32), np.zeros(tokens, np.float32), finish)

    leaf = RowOrigin("base", 0, "hendrycks_math", "hendrycks_math_algebra")
    texts = [("\\boxed{4}", 0.0), ("2 + 2 is", 0.0), ("I cannot", 0.0), ("4", 1.0)]
    ended = [answer(5, "stop"), answer(8, "length"), answer(3, "stop"), answer(8, "length")]
    generated = {(leaf.name, number): each for number, each in enumerate(ended)}
    found = list(rows(leaf, [written(place, *text) for place, text in enumerate(texts)], generated))
    stock = [row for row in found if row.task == "hendrycks_math"]
    assert [row.tokens for row in found] == [5, 5, 8, 8, 3, 3, 8, 8]
    assert [row.outcome for row in stock] == ["wrong", "truncated", "wrong", "correct"]
    ours = [row.outcome for row in found if row.task == "hendrycks_math/math_verify"]
    assert ours[:3] == ["correct", "truncated", "no_answer"]


@pytest.mark.parametrize("kind", [np.bool_, np.int64, np.float32, bool, int])
def test_a_share_is_one_whatever_its_type(kind: Any) -> None:
    found = list(rows(LEAF, [sample(0, acc=kind(1)), sample(1, acc=kind(0))], {}))
    assert [(row.task, row.score, row.outcome) for row in found] == [
        ("t", 1.0, "correct"),
        ("t", 0.0, "wrong"),
    ]


def test_the_first_measure_is_the_same_one_for_an_arm_that_says_nothing() -> None:
    # TruthfulQA's generated answers: BLEU's best is a percentage, which is 0 where the answers are empty.
    silent = rows(LEAF, [sample(0, bleu_max=0.0, bleu_acc=0, bleu_diff=0.0)], {})
    other = rows(LEAF, [sample(0, bleu_max=31.5, bleu_acc=1, bleu_diff=12.0)], {})
    assert [(row.task, row.score) for row in (*silent, *other)] == [("t", 0.0), ("t", 1.0)]


def test_a_choice_whose_likelihood_is_no_number_is_not_the_likeliest() -> None:
    # numpy's argmax takes the first NaN, so a model that has broken down would score as many as have A for an answer.
    broken = sample(0, acc=1.0, acc_norm=1.0) | {"resps": [[(math.nan, False)], [(math.nan, False)]]}
    found = list(rows(LEAF, [broken, sample(1, acc=1.0, acc_norm=0.0)], {}))
    assert [(row.task, row.score, row.outcome) for row in found] == [
        ("t", 0.0, "error"),
        ("t/acc_norm", 0.0, "error"),
        ("t", 1.0, "correct"),
        ("t/acc_norm", 0.0, "wrong"),
    ]
