"""The arithmetic of the shipped benchmark: operations of a step, lengths of sequences."""

from __future__ import annotations

import numpy as np
import pytest

from engine.bench.shapes import QWEN_1_5B, flops
from engine.data.sequence import TokenSequence


def test_operations_by_hand() -> None:
    items = [TokenSequence(np.zeros(length, np.int32), 1, True) for length in (100, 300)]
    dense = 6 * 1_543_714_304 * 400
    attention = 3 * 2 * 2 * 28 * 12 * 128 * (100**2 + 300**2) / 2  # scores and values, a third of it forward
    assert flops(QWEN_1_5B, 1_543_714_304, items) == pytest.approx(dense + attention)


def test_lengths_are_those_of_the_published_figures() -> None:
    lengths = np.array([len(item.token_ids) for item in QWEN_1_5B.sequences(4000)])
    assert lengths.max() <= 2048 and lengths.min() > 110
    assert np.median(lengths) == pytest.approx(110 + 450, rel=0.05)
