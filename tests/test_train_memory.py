"""Running out of memory halves the token budget once, and says so."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model

from engine.memory import OutOfMemory, TokenBudget, found_budget
from engine.policy import Policy


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
