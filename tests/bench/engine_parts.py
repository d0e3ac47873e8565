"""The parts of the training benchmark that run this project's engine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import start_processes

from engine.bench.shapes import Shape
from engine.bench.train import sft, speed, synchronise, timed, trainer
from engine.ipc.rank_processes import end_with_parent
from engine.machine import ranks
from engine.training import head
from engine.training.losses import LOSSES, Settings, Terms, Totals, importance_weights, merge
from engine.training.packing import Packed, pack
from engine.training.policy import Policy


def sft_sharded(shape: Shape, device: str, budget: int, count: int = 1) -> dict[str, Any]:
    """Run `sft` under FSDP2 on `count` devices from `device` up.

    There are 128 sequences per step for each device.
    """
    with tempfile.TemporaryDirectory() as folder:
        start_processes(_sft_rank, (count, shape, device, budget, Path(folder)), nprocs=count)  # type: ignore[no-untyped-call]
        found: dict[str, Any] = json.loads((Path(folder) / "found.json").read_text())
        return found


def _sft_rank(rank: int, count: int, shape: Shape, first: str, budget: int, folder: Path) -> None:
    end_with_parent()
    ranks.join_group(rank, count, first, folder / "meeting")
    found = sft(shape, str(ranks.own_device(first)), budget, batch=128 * count)
    if rank == 0:
        (folder / "found.json").write_text(json.dumps(found))
    ranks.leave_group()


def grpo(shape: Shape, device: str, budget: int, completions: int = 512, steps: int = 2) -> dict[str, Any]:
    """Run GRPO steps on 512 completions of up to 512 tokens.

    A step is forward, dapo loss with importance weights, and update.
    """
    policy, optimizer, parameters = trainer(shape, device, checkpointing=False)
    items = shape.sequences(completions, longest=shape.prompt + min(512, shape.longest))
    totals = Totals(sum(item.response_length for item in items), len(items), len(items) * 512)
    microbatches = pack(items, budget)
    old = []
    for packed in microbatches:
        with torch.no_grad():
            old.append(policy.logprobs(packed.to(device))[0])
    found: dict[str, float] = {}

    def step() -> None:
        parts = []
        for packed, before in zip(microbatches, old, strict=True):
            parts.append(policy_gradient(policy, packed.to(device), before, totals))
        optimizer.step()
        found.update(merge(parts))

    seconds = timed(device, step, steps)
    return {**speed(shape, device, parameters, items, seconds), "ratio_max": found["ratio/max"]}


def policy_gradient(
    policy: Policy, packed: Packed, before: torch.Tensor, totals: Totals
) -> dict[str, torch.Tensor]:
    """Run one microbatch of a dapo step with alternating advantages."""
    logprobs, _ = policy.logprobs(packed)
    importance, _ = importance_weights(before, before, packed.mask, 2.0, totals)
    advantages = torch.ones(len(packed.rows), device=policy.device)
    advantages[::2] = -1.0
    terms = Terms(logprobs, before, advantages, packed.mask, packed.sequence, importance)
    output = LOSSES["dapo"](terms, Settings(0.2, 0.28), totals)
    torch.autograd.backward(output.loss)
    return output.metrics


def numerics(shape: Shape, device: str, budget: int, count: int = 16) -> dict[str, Any]:
    """Compare packed log-probs and gradients with plain transformers.

    The packed path runs in the compute dtype, transformers in float32 and one by one.
    """
    items = shape.sequences(count, seed=1)
    reference = shape.model(device)
    expected = []
    for item in items:
        ids = torch.from_numpy(item.token_ids).long().to(device)[None]
        logits = reference(input_ids=ids).logits[0, item.prompt_length - 1 : -1].float()
        chosen = ids[0, item.prompt_length :, None]
        logprobs = torch.log_softmax(logits, -1).gather(-1, chosen)[:, 0]
        torch.autograd.backward(-logprobs.sum())
        expected.append(logprobs.detach())
    exact = {
        name: weight.grad.cpu() for name, weight in reference.named_parameters() if weight.grad is not None
    }
    del reference

    policy, _, _ = trainer(shape, device, checkpointing=False)
    differences, probabilities = [], []
    for packed in pack(items, budget):
        there = packed.to(device)
        logprobs, _ = policy.logprobs(there)
        torch.autograd.backward(-logprobs.sum())
        ours = logprobs.detach()[there.mask]
        theirs = torch.cat([expected[row] for row in packed.rows.tolist()])
        differences.append((ours - theirs).abs())
        probabilities.append((ours.exp() - theirs.exp()).abs())
    cosines = [
        float(torch.nn.functional.cosine_similarity(grad.flatten(), exact[name].to(device).flatten(), dim=0))
        for name, grad in named_gradients(policy).items()
    ]
    every, chance = torch.cat(differences), torch.cat(probabilities)
    return {
        "tokens": len(every),
        "mean_logprob_difference": float(every.mean()),
        "max_logprob_difference": float(every.max()),
        "mean_probability_difference": float(chance.mean()),
        "max_probability_difference": float(chance.max()),
        "lowest_gradient_cosine": min(cosines),
    }


def named_gradients(policy: Policy) -> dict[str, torch.Tensor]:
    """Return the gradients of the masters by the model's own names."""
    found = {name.removeprefix("model."): master.grad for name, master in policy.precision.masters.items()}
    return {name: grad for name, grad in found.items() if grad is not None}


def heads(shape: Shape, device: str, rows: int = 13_000) -> dict[str, Any]:
    """Measure the head alone, forward and backward: ms and peak memory.

    This project's head is compared with Liger's fused linear cross-entropy.
    """
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    hidden = torch.randn(rows, shape.width, device=device, dtype=dtype, requires_grad=True)
    weight = (torch.randn(shape.vocabulary, shape.width, device=device, dtype=dtype) * 0.05).requires_grad_()
    targets = torch.randint(0, shape.vocabulary, (rows,), device=device)
    candidates: dict[str, Callable[[], torch.Tensor]] = {
        "cross_entropy": lambda: head.cross_entropy(hidden, head.Head(weight), targets),
        "logprobs": lambda: head.logprobs(hidden, head.Head(weight), targets)[0].sum(),
    }
    if device != "cpu":
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss(reduction="sum")
        candidates["liger"] = lambda: liger(weight, hidden, targets)
    results = {}
    for name, forward in candidates.items():
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        seconds = timed(device, lambda forward=forward: torch.autograd.backward(forward()), 3)  # type: ignore[misc]
        results[name] = {"milliseconds": seconds * 1000}
        if device != "cpu":
            results[name]["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return results


def profiled(shape: Shape, device: str, budget: int) -> dict[str, Any]:
    """Return the slowest kernels of one SFT microbatch, in milliseconds."""
    policy, optimizer, _ = trainer(shape, device, checkpointing=False)
    items = shape.sequences(24)

    def step() -> None:
        for packed in pack(items, budget):
            loss, tokens = policy.cross_entropy(packed.to(device))
            torch.autograd.backward(loss / tokens)
        optimizer.step()

    timed(device, step, 1)
    activity = torch.profiler.ProfilerActivity
    activities = [activity.CPU] if device == "cpu" else [activity.CPU, activity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        step()
        synchronise(device)
    key = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    rows = sorted(profile.key_averages(), key=lambda row: -getattr(row, key))[:40]
    return {row.key[:90]: [round(getattr(row, key) / 1000, 2), row.count] for row in rows}
