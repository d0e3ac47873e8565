"""Losses and advantages against TRL's trainer, Liger's fused loss and arithmetic by hand."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.training import head
from engine.training.advantages import group_advantages, zero_variance
from engine.training.losses import (
    LOSSES,
    LossOutput,
    Settings,
    Terms,
    Totals,
    importance_weights,
    kl_k3,
    merge,
)
from engine.training.packing import BLANK, lay_out, spread
from engine.training.policy import Policy
from profiles.training import LossName
from tests.support.tiny_models import tiny_model

LENGTHS = (5, 2, 7, 4)
LONGEST, WIDTH, WORDS = 7, 6, 11
RATIO_MAX = "sampling/importance_sampling_ratio/max"
SETTINGS = Settings(clip_low=0.2, clip_high=0.28)
TRL_NAMES = {"grpo": "grpo", "dr_grpo": "dr_grpo", "dapo": "dapo", "gspo": "grpo", "cispo": "cispo"}


@dataclass(frozen=True)
class Batch:
    """The same completions padded, `(sequences, longest)`, as TRL and Liger take them."""

    hidden: Tensor  # (sequences, longest, width)
    weight: Tensor
    ids: Tensor
    mask: Tensor
    old: Tensor
    reference: Tensor
    sampler: Tensor
    advantages: Tensor  # (sequences,)


@pytest.fixture
def batch() -> Batch:
    made = torch.Generator().manual_seed(5)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=made)

    hidden, weight = random(4, LONGEST, WIDTH), random(WORDS, WIDTH)
    ids = torch.randint(0, WORDS, (4, LONGEST), generator=made)
    mask = torch.arange(LONGEST)[None, :] < torch.tensor(LENGTHS)[:, None]
    exact = torch.log_softmax(hidden @ weight.t(), -1).gather(-1, ids[..., None])[..., 0]
    noisy = [exact + scale * random(4, LONGEST) for scale in (0.4, 0.5, 0.6)]
    return Batch(hidden, weight, ids, mask, *noisy, advantages=torch.tensor([1.2, -0.7, -1.5, 0.9]))


def logprobs_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """A leaf to differentiate by, and the log-probs `(sequences, longest)` that follow from it."""
    hidden = batch.hidden.clone().requires_grad_()
    logprobs, _ = head.logprobs(hidden.reshape(-1, WIDTH), head.Head(batch.weight), batch.ids.reshape(-1))
    return hidden, logprobs.view_as(batch.ids)


def packed_terms(batch: Batch, logprobs: Tensor, rows: slice = slice(None), **extra: Any) -> Terms:
    """Ours: tokens end to end, with an untrained position (a prompt's) before each sequence."""
    lengths = LENGTHS[rows]
    chosen = batch.mask[rows]

    def flat(values: Tensor) -> Tensor:
        parts = values[rows][chosen].split(lengths)
        return torch.cat([torch.cat([torch.full((1,), -3.0), part]) for part in parts])

    sequence = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths) + 1)
    mask = torch.cat([torch.tensor([False] + [True] * length) for length in lengths])
    named = {name: flat(values) for name, values in extra.items()}
    return Terms(flat(logprobs), flat(batch.old), batch.advantages[rows], mask, sequence, **named)


def totals(lengths: tuple[int, ...] = LENGTHS) -> Totals:
    return Totals(tokens=sum(lengths), sequences=len(lengths), constant=len(lengths) * 16)


def trl_loss(
    batch: Batch, name: str, logprobs: Tensor, beta: float, correct: bool
) -> tuple[Tensor, dict[str, list[float]]]:
    """What trl.GRPOTrainer computes from the same log-probs, with its metrics."""
    trl = pytest.importorskip("trl.trainer.grpo_trainer")
    metrics: dict[str, dict[str, list[float]]] = {"train": defaultdict(list)}
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="sequence" if name == "gspo" else "token",
        beta=beta,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        loss_type=TRL_NAMES[name],
        epsilon_low=SETTINGS.clip_low,
        epsilon_high=SETTINGS.clip_high
        + (1.0 if name == "cispo" else 0.0),  # there TRL's is the bound itself
        use_vllm=correct,
        vllm_importance_sampling_correction=correct,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        max_completion_length=16,
        accelerator=SimpleNamespace(
            num_processes=1, reduce=lambda value, reduction: value, gather=lambda value: value
        ),
        _entropy_bonus_enabled=False,
        _metrics=metrics,
    )
    empty = torch.zeros(4, 1, dtype=torch.long)
    inputs = {
        "prompt_ids": empty,
        "prompt_mask": torch.ones_like(empty),
        "completion_ids": batch.ids,
        "completion_mask": batch.mask.long(),
        "advantages": batch.advantages,
        "old_per_token_logps": batch.old,
        "ref_per_token_logps": batch.reference,
        "num_items_in_batch": batch.mask.sum(),
        "importance_sampling_ratio": torch.exp(batch.old - batch.sampler).clamp(max=1.5),
    }
    loss: Tensor = trl.GRPOTrainer._compute_loss(trainer, None, inputs)
    return loss, metrics["train"]


@pytest.mark.parametrize("correct", [False, True], ids=["plain", "importance"])
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("name", list(TRL_NAMES))
def test_losses_gradients_and_metrics_are_trls(batch: Batch, name: Any, beta: float, correct: bool) -> None:
    theirs_leaf, theirs_logprobs = logprobs_of(batch)
    expected, expected_metrics = trl_loss(batch, name, theirs_logprobs, beta, correct)
    expected.backward()

    leaf, logprobs = logprobs_of(batch)
    extra = {"reference_logprobs": batch.reference} if beta else {}
    terms = packed_terms(batch, logprobs, **extra)
    metrics = {}
    if correct:
        sampler = packed_terms(batch, logprobs, reference_logprobs=batch.sampler).reference_logprobs
        assert sampler is not None
        weights, metrics = importance_weights(terms.old_logprobs, sampler, terms.mask, 1.5, totals())
        terms = replace(terms, importance=weights)
    output: LossOutput = LOSSES[name](terms, replace(SETTINGS, kl_coefficient=beta), totals())
    output.loss.backward()

    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(leaf.grad, theirs_leaf.grad)
    found = merge([output.metrics | metrics])
    if beta:
        assert found["kl/mean"] == pytest.approx(expected_metrics["kl"][0], rel=1e-4)
    if name in ("grpo", "dr_grpo", "dapo"):
        for ours in ("clip_ratio/low_mean", "clip_ratio/high_mean"):
            assert found[ours] == pytest.approx(expected_metrics[ours][0])
        assert found["clip_ratio/low_mean"] > 0 and found["clip_ratio/high_mean"] > 0
    if correct:
        ratio = torch.exp(batch.old - batch.sampler)[batch.mask]
        prefix = "sampling/importance_sampling_ratio"
        assert found[f"{prefix}/mean"] == pytest.approx(float(ratio.clamp(max=1.5).mean()), rel=1e-5)
        assert found[f"{prefix}/max"] == pytest.approx(float(ratio.max()), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("name", list(TRL_NAMES))
def test_losses_and_gradients_are_ligers(batch: Batch, name: Any, temperature: float) -> None:
    liger = pytest.importorskip("liger_kernel.chunked_loss")
    fused = liger.LigerFusedLinearGRPOLoss(
        beta=0.04,
        compiled=False,
        use_ref_model=True,
        epsilon_low=SETTINGS.clip_low,
        epsilon_high=SETTINGS.clip_high + (1.0 if name == "cispo" else 0.0),
        loss_type=TRL_NAMES[name],
        max_completion_length=16,
        importance_sampling_level="sequence" if name == "gspo" else "token",
        temperature=temperature,
    )
    theirs, theirs_weight = batch.hidden.clone().requires_grad_(), batch.weight.clone().requires_grad_()
    expected, _ = fused(
        theirs,
        theirs_weight,
        batch.ids,
        batch.mask.long(),
        batch.advantages,
        ref_per_token_logps=batch.reference,
        old_per_token_logps=batch.old,
    )
    expected.backward()

    hidden, weight = batch.hidden.clone().requires_grad_(), batch.weight.clone().requires_grad_()
    flat, _ = head.logprobs(hidden.reshape(-1, WIDTH), head.Head(weight), batch.ids.reshape(-1), temperature)
    terms = packed_terms(batch, flat.view_as(batch.ids), reference_logprobs=batch.reference)
    output = LOSSES[name](terms, replace(SETTINGS, kl_coefficient=0.04), totals())
    output.loss.backward()
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(hidden.grad, theirs.grad)
    torch.testing.assert_close(weight.grad, theirs_weight.grad)


@pytest.mark.parametrize("name", list(LOSSES))
def test_microbatches_add_up_to_the_whole_step(batch: Batch, name: Any) -> None:
    extra = {"reference_logprobs": batch.reference, "importance": batch.sampler.exp()}
    settings = replace(SETTINGS, kl_coefficient=0.1)
    leaf, logprobs = logprobs_of(batch)
    whole = LOSSES[name](packed_terms(batch, logprobs, **extra), settings, totals())
    whole.loss.backward()

    parts_leaf, logprobs = logprobs_of(batch)
    outputs = [
        LOSSES[name](packed_terms(batch, logprobs, rows, **extra), settings, totals())
        for rows in (slice(0, 1), slice(1, 4))
    ]
    sum(output.loss for output in outputs).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(parts_leaf.grad, leaf.grad)
    assert merge(output.metrics for output in outputs) == pytest.approx(merge([whole.metrics]), rel=1e-5)


def test_reinforce_by_hand() -> None:
    logprobs = torch.tensor([-0.5, -1.0, -2.0, 9.0], requires_grad=True)
    terms = Terms(
        logprobs=logprobs,
        old_logprobs=torch.tensor([-0.5, -1.0, -2.0, 0.0]),
        advantages=torch.tensor([2.0, -1.0]),
        mask=torch.tensor([True, True, True, False]),
        sequence=torch.tensor([0, 0, 1, 1]),
    )
    output = LOSSES["reinforce_baseline"](terms, SETTINGS, Totals(tokens=3, sequences=2, constant=8))
    output.loss.backward()
    assert output.loss.item() == pytest.approx((2.0 * 0.5 + 2.0 * 1.0 - 1.0 * 2.0) / 3)
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-2 / 3, -2 / 3, 1 / 3, 0.0])


def test_ratio_leaves_one_on_the_second_inner_step_and_clipping_bites() -> None:
    """The reference implementation's ratio was 1 for ever: its old log-probs were the policy's own of the moment."""
    logits = torch.zeros(2, 3, requires_grad=True)
    targets = torch.tensor([0, 1])
    old = torch.log_softmax(logits.detach(), -1).gather(-1, targets[:, None])[:, 0]
    ratios, clipped = [], []
    for _ in range(3):
        logprobs = torch.log_softmax(logits, -1).gather(-1, targets[:, None])[:, 0]
        terms = Terms(
            logprobs, old, torch.tensor([1.0, -1.0]), torch.tensor([True, True]), torch.tensor([0, 1])
        )
        output = LOSSES["dapo"](terms, SETTINGS, Totals(tokens=2, sequences=2, constant=2))
        (slope,) = torch.autograd.grad(output.loss, logits)
        with torch.no_grad():
            logits -= 2.0 * slope
        found = merge([output.metrics])
        ratios.append(found["ratio/max"])
        clipped.append(found["clip_ratio/low_mean"] + found["clip_ratio/high_mean"])
    assert ratios[0] == pytest.approx(1.0) and clipped[0] == 0.0
    assert ratios[1] > 1.28 and clipped[1] == 1.0
    assert ratios[2] == pytest.approx(ratios[1])  # every token is clipped, so nothing moves any more


def test_k3_by_hand() -> None:
    assert float(kl_k3(torch.tensor(0.0), torch.tensor(0.0))) == 0.0
    policy, reference = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.3, 0.2])
    expected = (policy * kl_k3(policy.log(), reference.log())).sum()
    torch.testing.assert_close(expected, (policy * (policy / reference).log()).sum())


REWARDS = np.array([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.2, 1.0, 0.0, 0.0]])


def test_advantages_by_hand() -> None:
    centred = np.array([[0.5, -0.5, -0.5, 0.5], [0, 0, 0, 0], [-0.1, 0.7, -0.3, -0.3]])
    scale = np.array([[(4 * 0.25 / 3) ** 0.5], [0.0], [(0.01 + 0.49 + 0.09 + 0.09) ** 0.5 / 3**0.5]]) + 1e-4
    for name in ("grpo", "dapo", "gspo", "cispo"):
        np.testing.assert_allclose(group_advantages(REWARDS, name), centred / scale)
        np.testing.assert_allclose(group_advantages(REWARDS, name, normalise=False), centred, atol=1e-12)
    for name in ("dr_grpo", "reinforce_baseline"):
        np.testing.assert_allclose(group_advantages(REWARDS, name), centred, atol=1e-12)
    np.testing.assert_array_equal(group_advantages(REWARDS, "reinforce"), REWARDS)
    assert zero_variance(REWARDS).tolist() == [False, True, False]


@pytest.mark.parametrize("name", LOSSES)
def test_a_blank_counts_nothing_and_gives_every_weight_a_gradient_of_zero(name: LossName) -> None:
    policy = Policy(tiny_model())
    packed = lay_out([BLANK], [0])
    logprobs, _ = policy.logprobs(packed)
    before = spread(packed, [np.empty(0, np.float32)])
    totals = Totals(tokens=10, sequences=2, constant=20)
    importance, metrics = importance_weights(logprobs.detach(), before, packed.mask, 2.0, totals)
    terms = Terms(logprobs, before, torch.zeros(1), packed.mask, packed.sequence, importance, before)
    output = LOSSES[name](terms, Settings(0.2, 0.28, 0.1), totals)
    torch.autograd.backward(output.loss)
    assert not any(float(value) for key, value in (metrics | output.metrics).items() if key != RATIO_MAX)
    assert metrics[RATIO_MAX] == 1.0
    assert all(
        master.grad is not None and not master.grad.any() for master in policy.precision.masters.values()
    )
