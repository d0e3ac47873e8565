"""Running out of memory halves the token budget once, and says so."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_models import random_sequences, tiny_model

from engine.learning.memory import OutOfMemory, TokenBudget, found_budget
from engine.learning.optimizer import Optimizer
from engine.learning.packing import Packed
from engine.learning.policy import Policy
from engine.stages.sft import update
from profiles.schema import Sft


def run(fits: int, tokens: int) -> tuple[TokenBudget, list[str], list[str]]:
    """A budget that has run one step which needs `fits` tokens or fewer; what it said and what was cleared."""
    said: list[str] = []
    log: list[str] = []
    budget = TokenBudget(tokens, said.append)

    def step(allowed: int) -> int:
        log.append(f"step {allowed}")
        if allowed > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return allowed

    assert budget.run(step, lambda: log.append("clear")) == min(fits, tokens)
    return budget, said, log


def test_half_the_budget_from_then_on() -> None:
    budget, said, log = run(fits=8192, tokens=16384)
    assert budget.tokens == 8192
    assert log == ["step 16384", "clear", "step 8192"]
    assert said == ["out of memory with 16384 packed tokens; going on with 8192"]


def test_a_step_that_fits_is_run_once() -> None:
    assert run(fits=16384, tokens=16384)[2] == ["step 16384"]


def test_a_second_time_it_fails_with_advice() -> None:
    budget, said, _ = run(fits=8192, tokens=16384)

    def never(allowed: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfMemory, match=r"8192 packed tokens.*lower tokens_per_microbatch"):
        budget.run(never, lambda: None)
    assert len(said) == 1


def test_a_cpu_has_a_fixed_budget() -> None:
    assert found_budget(Policy(tiny_model())) == 16_384


def sft_step(fails: bool, said: list[str]) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Metrics and masters of one step in 50 packed tokens: at once, or after running out in the middle of 100."""
    policy = Policy(tiny_model())
    forward, calls = policy.cross_entropy, []

    def limited(packed: Packed) -> tuple[torch.Tensor, int]:
        calls.append(len(packed))
        if fails and len(calls) == 2:  # when one microbatch has left its gradients already
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(packed)

    policy.cross_entropy = limited  # type: ignore[method-assign]
    training = SimpleNamespace(
        policy=policy,
        budget=TokenBudget(100 if fails else 50, said.append),
        move=Optimizer(policy.precision, Sft(), 3).step,
        device=torch.device("cpu"),
    )
    return update(training, random_sequences(6)), policy.precision.masters  # type: ignore[arg-type]


def test_an_sft_step_that_ran_out_is_the_step_it_would_have_been() -> None:
    said: list[str] = []
    metrics, masters = sft_step(fails=False, said=said)
    again, moved = sft_step(fails=True, said=said)
    assert again == metrics
    assert all(torch.equal(moved[name], master) for name, master in masters.items())
    assert said == ["out of memory with 100 packed tokens; going on with 50"]
