"""The training benchmark's own arithmetic, and its parts on a model small enough for a CPU."""

from __future__ import annotations

from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest

from engine.bench import ours
from engine.bench.shapes import QWEN_1_5B, TINY, flops
from engine.bench.train import ErrorsTo, parts, times_as_fast
from engine.data.sequence import Sequence


def test_operations_by_hand() -> None:
    items = [Sequence(np.zeros(length, np.int32), 1, True) for length in (100, 300)]
    dense = 6 * 1_543_714_304 * 400
    attention = 3 * 2 * 2 * 28 * 12 * 128 * (100**2 + 300**2) / 2  # scores and values, a third of it forward
    assert flops(QWEN_1_5B, 1_543_714_304, items) == pytest.approx(dense + attention)


def test_lengths_are_those_of_the_published_figures() -> None:
    lengths = np.array([len(item.token_ids) for item in QWEN_1_5B.sequences(4000)])
    assert lengths.max() <= 2048 and lengths.min() > 110
    assert np.median(lengths) == pytest.approx(110 + 450, rel=0.05)


def test_packed_arithmetic_equals_one_sequence_at_a_time() -> None:
    found = ours.numerics(TINY, "cpu", budget=512)
    assert found["mean_logprob_difference"] < 1e-5
    assert found["lowest_gradient_cosine"] > 0.9999


def test_the_grpo_part_moves_the_policy() -> None:
    found = ours.grpo(TINY, "cpu", budget=512, completions=6, steps=1)
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
