"""Which rows a step takes: every row once an epoch, nothing lost between epochs, the same from any starting step."""

from __future__ import annotations

from collections import Counter

from engine.data.order import batch_rows


def test_each_epoch_takes_every_row_once_even_where_a_batch_spans_two() -> None:
    rows, size = 103, 16
    taken = [row for step in range(rows) for row in batch_rows(rows, step, size, "sft", 0)]
    for epoch in range(size):
        assert Counter(taken[epoch * rows : (epoch + 1) * rows]) == Counter(range(rows))


def test_epochs_and_seeds_differ_but_repeat_exactly() -> None:
    first = [batch_rows(50, step, 50, "sft", 0) for step in range(3)]
    assert first == [batch_rows(50, step, 50, "sft", 0) for step in range(3)]
    assert first[0] != first[1]
    assert first[0] != batch_rows(50, 0, 50, "sft", 1)


def test_a_batch_may_be_larger_than_the_data() -> None:
    counts = Counter(batch_rows(3, 0, 7, 0))
    assert sorted(counts.values()) == [2, 2, 3]
