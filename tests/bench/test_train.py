"""The parts of the training benchmark on a model small enough for a CPU, and the comparison with TRL."""

from __future__ import annotations

from multiprocessing import Pipe
from typing import Any

import pytest

from engine.bench.shapes import TINY
from tests.bench import engine_parts
from tests.bench.train import ErrorsTo, parts, times_as_fast


def test_packed_arithmetic_equals_one_sequence_at_a_time() -> None:
    found = engine_parts.numerics(TINY, "cpu", budget=512)
    assert found["mean_logprob_difference"] < 1e-5
    assert found["lowest_gradient_cosine"] > 0.9999


def test_the_grpo_part_moves_the_policy() -> None:
    found = engine_parts.grpo(TINY, "cpu", budget=512, completions=6, steps=1)
    assert found["ratio_max"] > 1.0 and found["tokens_per_second"] > 0


def test_trl_is_set_beside_our_speed_where_both_have_one() -> None:
    results: dict[str, dict[str, Any]] = {
        "sft_16k": {"tokens_per_second": 51_000.0},
        "sft_found": {"tokens_per_second": 52_000.0},
        "trl_liger": {"tokens_per_second": 17_000.0},
        "trl_defaults": {"error": ["out of memory"]},
    }
    assert times_as_fast(results) == {"trl_liger": 3.0}
    assert times_as_fast({"trl_liger": {"tokens_per_second": 17_000.0}}) == {}


def test_what_goes_wrong_in_a_part_is_sent_and_goes_on_its_way() -> None:
    here, there = Pipe(duplex=False)
    with pytest.raises(KeyError), ErrorsTo(there):
        parts(1, ranks=1)["no such part"]
    assert here.recv()["error"][-1] == "KeyError: 'no such part'"
