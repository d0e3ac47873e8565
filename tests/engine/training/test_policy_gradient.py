"""What a step of policy gradient trains on where completions ran out of tokens."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.training.optimizer import MasterAdamW
from engine.training.policy import Policy
from engine.training.policy_gradient import PolicyGradient
from engine.training.replay import Rollouts
from profiles.training import Grpo
from tests.support.tiny_models import random_sequences, tiny_model

SETTINGS = Grpo(learning_rate=1e-2, warmup_steps=0, mask_truncated=True, loss="dapo", max_new_tokens=64)
ADVANTAGES = np.array([1.0, -1.0, 0.5, -0.5])


def rollouts(finished: list[bool], advantages: Any = ADVANTAGES) -> Rollouts:
    sequences = [
        replace(sequence, finished=ended)
        for sequence, ended in zip(random_sequences(4), finished, strict=True)
    ]
    sampled = [np.full(sequence.response_length, -1.0, np.float32) for sequence in sequences]
    return Rollouts(1, 0, [""] * 4, sequences, sampled, np.zeros(4), np.array(advantages), group_size=4)


def moves(made: Rollouts) -> dict[str, Tensor]:
    """How far one step on `made` moves each weight of the same model."""
    policy = Policy(tiny_model())
    before = {name: weight.detach().clone() for name, weight in policy.named_weights()}
    optimizer = MasterAdamW(policy.precision, SETTINGS, 1)
    training = SimpleNamespace(
        step=0,
        context=SimpleNamespace(seed=0),
        arm=SimpleNamespace(name="grpo"),
        policy=policy,
        budget=SimpleNamespace(run=lambda step, work, clear: work(256)),
        device=torch.device("cpu"),
        reference=None,
        optimizer_step=optimizer.step,
    )
    PolicyGradient(cast(Any, training), SETTINGS).train_on(made)
    return {name: weight.detach() - before[name] for name, weight in policy.named_weights()}


def test_completions_that_ran_out_of_tokens_are_left_out() -> None:
    some = [True, False, True, False]
    expected = moves(rollouts(some, [1.0, 9.0, 0.5, -9.0]))
    for name, move in moves(rollouts(some)).items():
        torch.testing.assert_close(move, expected[name])
    assert any(bool(move.any()) for move in expected.values())


def test_a_step_in_which_all_ran_out_of_tokens_teaches_nothing() -> None:
    """Though some of them may have been right: a model that never stops can still have said the answer."""
    for name, move in moves(rollouts([False] * 4)).items():
        assert not move.any(), name


def test_with_all_finished_all_count() -> None:
    whole = moves(rollouts([True] * 4))
    other = moves(rollouts([True] * 4, [1.0, 9.0, 0.5, -0.5]))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(whole, other)
