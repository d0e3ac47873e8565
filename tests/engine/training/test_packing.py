"""Shift, mask, targets and packing against ids and plans written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.data.sequence import TokenSequence
from engine.training.packing import lay_out, pack, plan, spread

END = 9


def sequence(prompt: list[int], response: list[int]) -> TokenSequence:
    ids = np.array(prompt + response, dtype=np.int32)
    return TokenSequence(ids, len(prompt), finished=response[-1:] == [END])


FINISHED = sequence([1, 2, 3], [4, 5, END])
TRUNCATED = sequence([6], [7, 8])


def test_first_response_token_and_end_are_trained_and_a_truncated_row_ends_in_silence() -> None:
    packed = lay_out([FINISHED, TRUNCATED], [0, 1])
    assert packed.input_ids.tolist() == [1, 2, 3, 4, 5, END, 6, 7, 8]
    #                     predicts:      2  3  4  5  END  -  7  8  -
    assert packed.mask.tolist() == [False, False, True, True, True, False, True, True, False]
    assert packed.targets.tolist() == [0, 0, 4, 5, END, 0, 7, 8, 0]
    assert packed.trained.tolist() == [2, 3, 4, 6, 7]
    assert packed.position_ids.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert packed.sequence.tolist() == [0] * 6 + [1] * 3
    assert packed.cu_seqlens.tolist() == [0, 6, 9]
    assert packed.longest == 6


def test_no_sequence_is_trained_to_predict_its_neighbour() -> None:
    packed = lay_out([TRUNCATED, FINISHED], [0, 1])
    assert packed.targets[packed.mask].tolist() == [7, 8, 4, 5, END]


def test_a_response_that_was_cut_away_trains_nothing_and_a_promptless_one_is_refused() -> None:
    assert not lay_out([sequence([1, 2], [])], [0]).mask.any()
    with pytest.raises(ValueError, match="sequence 0: 2 tokens with a prompt of 0"):
        lay_out([sequence([], [1, END])], [0])


def test_spread_puts_sampled_values_beside_the_positions_that_predict_them() -> None:
    packed = lay_out([FINISHED, TRUNCATED], [1, 0])
    values = [np.array([0.7, 0.8], np.float32), np.array([0.4, 0.5, 0.9], np.float32)]
    expected = {7: 0.7, 8: 0.8, 4: 0.4, 5: 0.5, END: 0.9}
    for target, value, trained in zip(packed.targets, spread(packed, values), packed.mask, strict=True):
        assert float(value) == pytest.approx(expected[int(target)] if trained else 0.0)
    with pytest.raises(ValueError, match="2 values for 5"):
        spread(packed, values[:1])


def test_balance_by_hand() -> None:
    groups = plan([7, 2, 5, 3, 3], budget=10)  # 7 | 5; 3 to the 5, 3 to the 7, 2 to the 5 and 3
    assert sorted(groups) in ([[0, 3], [1, 2, 4]], [[0, 4], [1, 2, 3]])
    assert len(plan([6, 6, 6], budget=10)) == 3  # 18 tokens would fit two, but no two of these fit one


def test_a_plan_takes_everything_once_within_budget_and_repeats_by_seed() -> None:
    lengths = np.random.default_rng(0).integers(50, 2000, 300).tolist()
    groups = plan(lengths, budget=8192, seed=3)
    assert sorted(row for group in groups for row in group) == list(range(300))
    assert all(sum(lengths[row] for row in group) <= 8192 for group in groups)
    totals = [sum(lengths[row] for row in group) for group in groups]
    assert len(groups) <= -(-sum(lengths) // 8192) + 1  # hardly any room is lost
    assert max(totals) - min(totals) < 400  # and no microbatch is much smaller than the others
    assert groups == plan(lengths, budget=8192, seed=3)
    assert groups != plan(lengths, budget=8192, seed=4)


def test_a_sequence_longer_than_the_budget_is_alone() -> None:
    groups = plan([50, 4, 4], budget=10)
    assert sorted(groups) == [[0], [1, 2]]


def test_every_rank_gets_as_many_microbatches() -> None:
    assert len(plan([3, 3, 3, 3], budget=9, multiple_of=2)) == 2
    assert len(plan([1] * 7, budget=100, multiple_of=4)) == 4


@pytest.mark.parametrize("count", [1, 3, 4, 40])
def test_ranks_share_out_everything_and_whoever_has_nothing_gets_a_blank(count: int) -> None:
    rng = np.random.default_rng(2)
    items = [
        TokenSequence(rng.integers(0, 99, n).astype(np.int32), 2, True) for n in rng.integers(4, 30, count)
    ]
    shares = [pack(items, budget=64, share=(rank, 3)) for rank in range(3)]
    assert len({len(share) for share in shares}) == 1
    rows = sorted(row for share in shares for packed in share for row in packed.rows.tolist())
    assert rows[:count] == list(range(count))
    assert set(rows[count:]) <= {count}  # a blank
    tokens = sum(int(packed.mask.sum()) for share in shares for packed in share)
    assert tokens == sum(item.response_length for item in items)


def test_pack_keeps_ids_and_says_where_they_came_from() -> None:
    rng = np.random.default_rng(1)
    items = [TokenSequence(rng.integers(0, 99, n).astype(np.int32), 2, True) for n in rng.integers(4, 30, 40)]
    for packed in pack(items, budget=64):
        starts = packed.cu_seqlens.tolist()
        for row, start, end in zip(packed.rows.tolist(), starts, starts[1:], strict=False):
            assert torch.equal(packed.input_ids[start:end], torch.from_numpy(items[row].token_ids).long())
