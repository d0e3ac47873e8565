"""AdamW over float32 masters, the schedules and clipping, against arithmetic by hand and torch's own AdamW."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from engine.training.optimizer import MasterAdamW, learning_rate
from engine.training.packing import lay_out
from engine.training.policy import Policy
from engine.training.precision import CopiedMasters, PlainMasters
from profiles.training import Sft
from tests.support.tiny_models import random_sequences, tiny_model


def test_schedules_by_hand() -> None:
    cosine = Sft(learning_rate=0.1, schedule="cosine", warmup_steps=2)
    assert [learning_rate(cosine, step, 6) for step in range(6)] == pytest.approx(
        [0.05, 0.1, 0.1, 0.05 * (1 + math.cos(math.pi / 4)), 0.05, 0.05 * (1 + math.cos(3 * math.pi / 4))]
    )
    linear = Sft(learning_rate=0.1, schedule="linear", warmup_steps=0)
    assert [learning_rate(linear, step, 4) for step in range(5)] == pytest.approx(
        [0.1, 0.075, 0.05, 0.025, 0.0]
    )
    constant = Sft(learning_rate=0.1, schedule="constant", warmup_steps=1)
    assert [learning_rate(constant, step, 3) for step in range(4)] == pytest.approx([0.1] * 4)


class Quadratic(nn.Module):
    """A matrix and a vector whose gradients are chosen by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(2, 2))
        self.vector = nn.Parameter(torch.ones(2))


def test_updates_are_torchs_adamw_with_clipping_and_no_decay_on_vectors() -> None:
    settings = Sft(
        learning_rate=0.01, schedule="constant", warmup_steps=0, weight_decay=0.5, max_grad_norm=1.0
    )
    network, oracle = Quadratic(), Quadratic()
    optimizer = MasterAdamW(PlainMasters(network), settings, 10)
    groups = [{"params": [oracle.matrix]}, {"params": [oracle.vector], "weight_decay": 0.0}]
    expected = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), weight_decay=0.5, foreach=False)
    for step in range(4):
        slope = 0.4 * (step + 1)  # norm is slope × √6: clipped from the second step on
        for model in (network, oracle):
            for weight in model.parameters():
                weight.grad = torch.full_like(weight, slope)
        update = optimizer.step()
        torch.nn.utils.clip_grad_norm_(oracle.parameters(), 1.0)
        expected.step()
        assert update.grad_norm == pytest.approx(slope * 6**0.5)
        torch.testing.assert_close(network.matrix, oracle.matrix, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(network.vector, oracle.vector, rtol=1e-5, atol=1e-6)
        assert network.matrix.grad is None


def test_an_update_of_1e6_moves_masters_where_pure_bf16_stands_still() -> None:
    """Half a bf16 step at 1 is 0.0039: with bf16 weights and no masters an update of 1e-6 is rounded away."""
    network, pure = Quadratic(), Quadratic().to(torch.bfloat16)
    masters = CopiedMasters(network, torch.bfloat16)
    settings = Sft(learning_rate=1e-6, schedule="constant", warmup_steps=0)
    optimizer = MasterAdamW(masters, settings, 4000)
    naive = torch.optim.AdamW(pure.parameters(), lr=1e-6, weight_decay=0.0)
    for _ in range(20):
        for model in (network, pure):
            (model.matrix.sum() + model.vector.sum()).backward()
        optimizer.step()
        naive.step()
        naive.zero_grad()
    assert torch.equal(pure.matrix, torch.ones(2, 2, dtype=torch.bfloat16))
    torch.testing.assert_close(masters.masters["matrix"], torch.full((2, 2), 1 - 20e-6), rtol=0, atol=5e-7)
    for _ in range(2500):  # what gathers in the masters does reach the compute weights
        (network.matrix.sum() + network.vector.sum()).backward()
        optimizer.step()
    assert network.matrix.dtype == torch.bfloat16
    assert float(network.matrix.detach()[0, 0]) == pytest.approx(1 - 2520e-6, abs=2**-9)
    assert float(network.matrix.detach()[0, 0]) < 1.0


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    network = Quadratic()
    optimizer = MasterAdamW(PlainMasters(network), Sft(learning_rate=0.1, warmup_steps=0), 10)
    network.matrix.grad, network.vector.grad = torch.full((2, 2), torch.inf), torch.ones(2)
    assert not math.isfinite(optimizer.step().grad_norm)
    assert torch.equal(network.matrix, torch.ones(2, 2)) and torch.equal(network.vector, torch.ones(2))
    assert optimizer.steps_done == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_learns_a_batch_by_heart(dtype: str) -> None:
    policy = Policy(tiny_model(), compute_dtype=dtype)
    settings = Sft(learning_rate=0.01, schedule="constant", warmup_steps=5)
    optimizer = MasterAdamW(policy.precision, settings, 100)
    packed = lay_out(random_sequences(4), range(4))
    losses = []
    for _ in range(60):
        loss, tokens = policy.cross_entropy(packed)
        (loss / tokens).backward()
        optimizer.step()
        losses.append(float(loss.detach()) / tokens)
    assert losses[0] > 3.0 and losses[-1] < 0.3
