"""Losses, log-probs, gradients and whole steps of a real model against plain PyTorch on the same sequences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from engine.context import Context
from engine.data import inputs
from engine.data.sequence import TokenSequence
from engine.stages.sft import update
from engine.training.arm_training import Training
from engine.training.packing import lay_out
from engine.training.policy import Policy
from engine.training.policy_gradient import PolicyGradient
from engine.training.replay import Rollouts
from engine.training.sources import advantages
from tests.support import real_model

pytestmark = real_model.marks

RATE = 1e-4
DECAY = 0.1
BETAS = (0.9, 0.95)
NORM = 1.0  # gradients are clipped to it
OPTIMIZER = (
    f"learning_rate={RATE}",
    "schedule=constant",
    "warmup_steps=0",
    f"weight_decay={DECAY}",
    f"max_grad_norm={NORM}",
    "tokens_per_microbatch=150",  # two microbatches a step or more
)
TEMPERATURE = 0.8
CLIP_LOW, CLIP_HIGH = 0.2, 0.28
PARAMETERS = (
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.14.mlp.down_proj.weight",
    "model.layers.29.input_layernorm.weight",
    "model.norm.weight",
)
Pairs = list[tuple[list[int], list[int]]]  # ids of a prompt and of its answer


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    """A run whose four training sequences are ready; the folder goes when the tests end."""
    settings = [f"{section}.{setting}" for section in ("sft", "grpo") for setting in OPTIMIZER]
    grpo = ("grpo.loss=dapo", f"grpo.temperature={TEMPERATURE}", "grpo.old_logprobs=sampler", "grpo.steps=1")
    clip = (f"grpo.clip_low={CLIP_LOW}", f"grpo.clip_high={CLIP_HIGH}")
    rows = ("data.train_limit=4", "preprocess.system_prompt=")
    with TemporaryDirectory() as folder:
        yield real_model.prepared(Path(folder), *settings, *grpo, *clip, *rows)


@pytest.fixture(scope="module")
def pairs(context: Context) -> Pairs:
    """The same sequences from the chat template and the rows' text."""
    tokenizer, found = real_model.tokenizer(), []
    for row in inputs.rows(context, "train"):
        asked = [{"role": "user", "content": row.question}]
        prompt = tokenizer.apply_chat_template(
            asked, tokenize=True, add_generation_prompt=True, return_dict=False
        )
        answer = tokenizer(real_model.without_marks(row.question), add_special_tokens=False)["input_ids"]
        found.append((list(prompt), [*answer, tokenizer.eos_token_id]))
    return found


def answer_logprobs(model: PreTrainedModel, prompt: list[int], answer: list[int]) -> Tensor:
    """Log-prob of each answer token `(tokens,)`, with gradients, by the model's own forward pass."""
    logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]


def adamw(model: PreTrainedModel) -> torch.optim.AdamW:
    """The optimizer as a script has it: weight decay on matrices, none on norms."""
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=RATE, betas=BETAS)


def moved_alike(found: dict[str, Tensor], expected: PreTrainedModel, before: dict[str, Tensor]) -> None:
    """Check that all weights moved as in `expected`.

    AdamW's first steps are ±rate for every weight, so the sign of a gradient near 0 counts as much as any other:
    rounding turns a few of them.
    """
    for name, weight in expected.named_parameters():
        step, other = weight.detach() - before[name], found[name] - before[name]
        assert step.any(), name
        turned = ((step - other).abs() > 0.02 * RATE).float().mean()
        assert turned < 0.005, f"{name}: {turned:.2%} of the weights moved otherwise"


@pytest.fixture(scope="module")
def before() -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in real_model.plain_model().named_parameters()}


def test_packed_loss_logprobs_and_gradients_are_transformers_own(context: Context, pairs: Pairs) -> None:
    packed = lay_out(list(inputs.sequences(context)), range(len(pairs)))
    policy = Policy.load(real_model.FOLDER)
    with torch.no_grad():
        logprobs, _ = policy.logprobs(packed)
    loss, tokens = policy.cross_entropy(packed)
    loss.backward()

    oracle = real_model.plain_model()
    total, expected = 0.0, []
    for prompt, answer in pairs:
        ids = torch.tensor([[*prompt, *answer]])
        output = oracle(input_ids=ids, labels=torch.tensor([[-100] * len(prompt) + answer]))
        (output.loss * len(answer)).backward()
        total += output.loss.item() * len(answer)
        of_answer = output.logits[0, len(prompt) - 1 : -1].detach().log_softmax(-1)
        expected.append(of_answer.gather(1, torch.tensor(answer)[:, None])[:, 0])
    torch.testing.assert_close(logprobs[packed.mask], torch.cat(expected), rtol=0.0, atol=1e-4)
    assert tokens == sum(len(answer) for _, answer in pairs)
    assert loss.item() / tokens == pytest.approx(total / tokens, abs=1e-4)
    gradients = {name: weight.grad for name, weight in policy.model.named_parameters()}
    for name, weight in oracle.named_parameters():
        if name in PARAMETERS:
            assert weight.grad is not None and gradients[name] is not None
            difference = (gradients[name] - weight.grad).norm() / weight.grad.norm()
            assert difference < 1e-4, name


def test_sft_steps_are_those_of_plain_pytorch(
    context: Context, pairs: Pairs, before: dict[str, Tensor]
) -> None:
    arm = context.profile.arm("sft")
    with Training(replace(context, stage="sft", arm=arm), context.profile.sft, 2) as training:
        steps = [update(training, list(inputs.sequences(context))) for _ in range(2)]
        found = {name: weight.clone() for name, weight in training.policy.named_weights()}

    oracle = real_model.plain_model()
    optimizer = adamw(oracle)
    for step in steps:
        losses = -torch.cat([answer_logprobs(oracle, *pair) for pair in pairs])
        loss = losses.mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(oracle.parameters(), NORM)
        assert norm > NORM, "the test needs gradients that are clipped"
        assert step["train/loss"] == pytest.approx(loss.item(), abs=1e-4)
        assert step["train/grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
        optimizer.step()
        optimizer.zero_grad()
    assert steps[1]["train/loss"] < steps[0]["train/loss"]
    moved_alike(found, oracle, before)


def drawn(model: PreTrainedModel, pairs: Pairs) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Log-probs that a sampler a little off the policy gives: some ratios leave the range of the clip."""
    rng = np.random.default_rng(0)
    found = []
    for prompt, answer in pairs:
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1] / TEMPERATURE
        own = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0].numpy()
        found.append((own + rng.normal(0.0, 0.2, len(own))).astype(np.float32))
    return found


def policy_gradient_loss(
    model: PreTrainedModel, pairs: Pairs, old: Sequence[Any], scores: Sequence[float]
) -> Tensor:
    """DAPO's loss by its formula: the mean over all tokens of −min(r·A, clip(r)·A)."""
    terms = []
    for (prompt, answer), denominator, score in zip(pairs, old, scores, strict=True):
        logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1] / TEMPERATURE
        own = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]
        ratio = (own - torch.from_numpy(denominator)).exp()
        terms.append(-torch.minimum(ratio * score, ratio.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH) * score))
    return torch.cat(terms).mean()


def test_a_grpo_step_is_that_of_plain_pytorch(
    context: Context, pairs: Pairs, before: dict[str, Tensor]
) -> None:
    settings, rewards = context.profile.grpo, [1.0, 0.0, 0.0, 1.0]
    oracle = real_model.plain_model()
    old = drawn(oracle, pairs)
    sequences = [
        TokenSequence(np.array([*prompt, *answer], np.int32), len(prompt), True) for prompt, answer in pairs
    ]
    scores = advantages(np.array([rewards]), settings)
    rollouts = Rollouts(0, 0, [""] * 4, sequences, old, np.array(rewards), scores, group_size=4)
    arm = context.profile.arm("grpo")
    with Training(replace(context, stage="grpo", arm=arm), settings, 1) as training:
        metrics = PolicyGradient(training, settings).train_on(rollouts)
        found = {name: weight.clone() for name, weight in training.policy.named_weights()}

    deviation = math.sqrt(sum((reward - 0.5) ** 2 for reward in rewards) / 3) + 1e-4
    by_hand = [(reward - 0.5) / deviation for reward in rewards]
    optimizer = adamw(oracle)
    loss = policy_gradient_loss(oracle, pairs, old, by_hand)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(oracle.parameters(), NORM)
    optimizer.step()
    assert metrics["train/loss"] == pytest.approx(loss.item(), abs=1e-4)
    assert metrics["train/grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
    assert 0.0 < metrics["clip_ratio/low_mean"] < 0.5 and 0.0 < metrics["clip_ratio/high_mean"] < 0.5
    moved_alike(found, oracle, before)
