"""Running out of memory halves the token budget once, from that pass on and in every later start, and says so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.context import StageFailed
from engine.stages.sft import update
from engine.training.memory import TokenBudget, measure_budget
from engine.training.oom import fail_if_half_was_too_much
from engine.training.optimizer import MasterAdamW
from engine.training.packing import Packed
from engine.training.policy import Policy
from profiles.training import Sft
from tests.support.tiny_models import random_sequences, tiny_model


class Trial:
    """One start of a training whose passes need `fits` tokens or fewer, over the facts in `root`."""

    def __init__(self, root: Path, fits: int, tokens: int = 16384) -> None:
        self.said: list[str] = []
        self.log: list[str] = []
        self.fits = fits
        self._budget = TokenBudget(tokens, root, "sft", torch.device("cpu"), self.said.append)

    def run(self, step: int) -> int:
        """The budget with which the next pass of `step` was done in the end."""
        return self._budget.run(step, self._work, lambda: self.log.append("clear"))

    def _work(self, allowed: int) -> int:
        self.log.append(f"{allowed}")
        if allowed > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return allowed


def test_half_the_budget_from_then_on(tmp_path: Path) -> None:
    trial = Trial(tmp_path, fits=8192)
    assert [trial.run(step) for step in (0, 1)] == [8192, 8192]
    assert trial.log == ["16384", "clear", "8192", "8192"]
    assert trial.said == [
        "cpu ran out of memory in step 1 with 16384 packed tokens per microbatch; the budget is 8192 from there on. "
        "To avoid this, lower sft.tokens_per_microbatch or set sft.gradient_checkpointing = true"
    ]


def test_a_step_that_fits_is_run_once(tmp_path: Path) -> None:
    trial = Trial(tmp_path, fits=16384)
    assert trial.run(0) == 16384
    assert (trial.log, trial.said) == (["16384"], [])


def test_every_later_start_halves_from_the_same_pass_on(tmp_path: Path) -> None:
    before = Trial(tmp_path, fits=16384)
    assert [before.run(step) for step in (0, 0, 1, 1)] == [16384] * 4
    # The second of the passes of step 1 runs out; what was done before keeps the budget it had, and is not done again.
    short = Trial(tmp_path, fits=16384)
    assert short.run(1) == 16384
    short.fits = 8192
    assert [short.run(step) for step in (1, 2)] == [8192, 8192]

    later = Trial(tmp_path, fits=16384)
    assert [later.run(step) for step in (0, 0, 1, 1, 2)] == [16384, 16384, 16384, 8192, 8192]
    assert later.said == short.said
    assert later.log.count("clear") == 0


def test_a_second_time_it_fails_with_advice(tmp_path: Path) -> None:
    assert Trial(tmp_path, fits=8192).run(3) == 8192
    trial = Trial(tmp_path, fits=4096)
    with pytest.raises(StageFailed, match=r"in step 5 with 8192 .* half .* lower sft\.tokens_per_microbatch"):
        trial.run(4)
    assert trial.log == ["8192"]
    fail_if_half_was_too_much(tmp_path, "sft")  # said already: no start has to say it


def test_a_cpu_has_a_fixed_budget() -> None:
    assert measure_budget(Policy(tiny_model())) == 16_384


def sft_step(root: Path, fails: bool, said: list[str]) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
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
        step=0,
        budget=TokenBudget(100 if fails else 50, root, "sft", torch.device("cpu"), said.append),
        optimizer_step=MasterAdamW(policy.precision, Sft(), 3).step,
        device=torch.device("cpu"),
    )
    return update(training, random_sequences(6)), policy.precision.masters  # type: ignore[arg-type]


def test_an_sft_step_that_ran_out_is_the_step_it_would_have_been(tmp_path: Path) -> None:
    said: list[str] = []
    metrics, masters = sft_step(tmp_path, fails=False, said=said)
    again, moved = sft_step(tmp_path, fails=True, said=said)
    assert again == metrics
    assert all(torch.equal(moved[name], master) for name, master in masters.items())
    (warning,) = said
    assert "with 100 packed tokens per microbatch; the budget is 50 from there on" in warning
