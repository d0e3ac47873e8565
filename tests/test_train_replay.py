"""Recorded rollouts come back as they were, and are replaced whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.data.recorded import recorded_steps, step_path
from engine.data.sequence import Sequence
from engine.learning import replay
from engine.learning.replay import Rollouts

ROLLOUTS = Rollouts(
    step=12,
    version=11,
    ex_ids=["train-3", "train-ü"],
    sequences=[
        Sequence(np.array([5, 6, 7, 0], np.int32), 2, True),
        Sequence(np.array([5, 151_935], np.int32), 1, False),
    ],
    logprobs=[np.array([-0.25, -1e-7], np.float32), np.array([-13.5], np.float32)],
    rewards=np.array([1.0, 0.0]),
    advantages=np.array([0.7, -0.7]),
    group_size=2,
)


def test_what_is_read_is_what_was_recorded(tmp_path: Path) -> None:
    replay.record(tmp_path / "grpo", ROLLOUTS)
    found = replay.read(tmp_path / "grpo", 12)
    assert (found.step, found.version, found.ex_ids) == (12, 11, ["train-3", "train-ü"])
    assert found.group_size == 2
    for ours, theirs in zip(found.sequences, ROLLOUTS.sequences, strict=True):
        assert np.array_equal(ours.token_ids, theirs.token_ids) and ours.token_ids.dtype == np.int32
        assert (ours.prompt_length, ours.finished) == (theirs.prompt_length, theirs.finished)
    for name in ("logprobs", "rewards", "advantages"):
        for mine, theirs in zip(getattr(found, name), getattr(ROLLOUTS, name), strict=True):
            assert np.array_equal(mine, theirs)


def test_a_step_recorded_again_replaces_the_old_and_leaves_no_draft(tmp_path: Path) -> None:
    replay.record(tmp_path, ROLLOUTS)
    replay.record(tmp_path, replace(ROLLOUTS, rewards=np.array([0.5, 0.5])))
    replay.record(tmp_path, replace(ROLLOUTS, step=3))
    assert replay.read(tmp_path, 12).rewards.tolist() == [0.5, 0.5]
    assert recorded_steps(tmp_path) == [3, 12]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_step_that_was_not_recorded_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="update_000004.npz"):
        replay.read(tmp_path, 4)


def test_a_record_that_counted_from_zero_is_read_and_can_go_on(tmp_path: Path) -> None:
    """An older version wrote step 11 of its own count, the 12th update, as step_000011 with `step` 11 in it."""
    replay.record(tmp_path, replace(ROLLOUTS, step=11))
    step_path(tmp_path, 11).rename(tmp_path / "step_000011.npz")
    replay.record(tmp_path, replace(ROLLOUTS, step=13))
    assert recorded_steps(tmp_path) == [12, 13]
    assert [replay.read(tmp_path, step).step for step in (12, 13)] == [12, 13]
    with pytest.raises(FileNotFoundError, match="update_000011"):
        replay.read(tmp_path, 11)
    again = replace(ROLLOUTS, rewards=np.array([0.5, 0.5]))  # as a run that is resumed before its end does
    replay.record(tmp_path, again)
    assert replay.read(tmp_path, 12).rewards.tolist() == [0.5, 0.5]
    assert recorded_steps(tmp_path) == [12, 13]


def test_a_record_with_a_pickle_in_it_is_refused(tmp_path: Path) -> None:
    replay.record(tmp_path, ROLLOUTS)
    path = step_path(tmp_path, ROLLOUTS.step)
    with np.load(path) as file:
        columns = dict(file)
    np.savez(path, **columns | {"ex_ids": np.array([{"any": "object"}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        replay.read(tmp_path, ROLLOUTS.step)
