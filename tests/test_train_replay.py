"""Recorded rollouts come back as they were, and are replaced whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.data.recorded import recorded_steps
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
    with pytest.raises(FileNotFoundError, match="step_000004.npz"):
        replay.read(tmp_path, 4)
