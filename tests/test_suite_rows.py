"""From lm-eval's samples to rows, by samples written by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from engine.suite.rows import UNDEFINED, rows
from store.records import LOGLIKELIHOOD


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
    found = list(
        rows("base", 0, "t", "t", [sample(0, acc=np.float64(1.0000000000000002)), sample(1, acc=0.4)])
    )
    assert [(row.score, row.correct, row.outcome) for row in found] == [
        (1.0, True, "correct"),
        (0.4, False, "wrong"),
    ]
    assert found[0].output == "no"  # the likelier


def test_a_document_without_a_value_stays_in_the_denominator() -> None:
    found = list(rows("base", 0, "t", "t", [sample(0, acc=math.nan), sample(1, acc=1.0)]))
    assert [(row.ex_id, row.score, row.correct, row.outcome) for row in found] == [
        ("t:0", 0.0, False, UNDEFINED),
        ("t:1", 1.0, True, "correct"),
    ]


@pytest.mark.parametrize(
    "values", [(math.nan, math.nan), (27.5, 0.4), ("a", "b"), (-0.5, 0.5), (math.inf, 1.0)]
)
def test_what_is_no_share_of_a_document_makes_no_rows(values: tuple[Any, Any]) -> None:
    assert not list(rows("base", 0, "t", "t", [sample(place, m=value) for place, value in enumerate(values)]))


def test_a_perplexity_is_a_loglikelihood_whatever_its_value() -> None:
    samples = [sample(0, word_perplexity=(-7.5, 3)), sample(1, word_perplexity=(0.0, 2))]
    found = list(rows("base", 0, "t", "t", samples))
    assert [(row.score, row.tokens, row.outcome) for row in found] == [
        (-7.5, 3, LOGLIKELIHOOD),
        (0.0, 2, LOGLIKELIHOOD),
    ]
    alone = list(rows("base", 0, "t", "t", [sample(0, perplexity=0.5), sample(1, perplexity=math.nan)]))
    assert [(row.tokens, row.outcome) for row in alone] == [(1, LOGLIKELIHOOD)] * 2
    assert alone[0].score == 0.5 and math.isnan(alone[1].score)
