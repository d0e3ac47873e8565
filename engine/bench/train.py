"""Training speed of SFT on one device.

The result is one JSON file.

    python -m engine.bench.train --out train.json            # a Qwen2 of 1.5 B parameters on cuda:0
    python -m engine.bench.train --tiny --device cpu         # a toy model: measures nothing

Weights are random and nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from engine.bench.environment import environment
from engine.bench.shapes import PEAK_FLOPS, QWEN_1_5B, TINY, Shape, flops
from engine.data.sequence import TokenSequence
from engine.machine import ranks
from engine.training.memory import measure_budget
from engine.training.optimizer import MasterAdamW
from engine.training.packing import pack
from engine.training.policy import Policy
from profiles.training import Sft

WARM_UP = 2
SETTINGS = Sft(learning_rate=1e-6, schedule="constant", warmup_steps=0)


def synchronise(device: str) -> None:
    """Wait for a GPU; return at once for a CPU."""
    if device != "cpu":
        torch.cuda.synchronize()


def timed(device: str, step: Callable[[], None], steps: int) -> float:
    """Return seconds per step, after `WARM_UP` steps."""
    for _ in range(WARM_UP):
        step()
    synchronise(device)
    began = time.perf_counter()
    for _ in range(steps):
        step()
    synchronise(device)
    return (time.perf_counter() - began) / steps


def speed(
    shape: Shape, device: str, parameters: int, items: list[TokenSequence], seconds: float
) -> dict[str, Any]:
    """Return tokens per second, MFU and peak memory of a step over `items`.

    Only real tokens count. The figures cover all ranks' devices.

    Args:
        parameters: number of the model's parameters.
        seconds: the measured duration of the step.
    """
    tokens = sum(len(item.token_ids) for item in items)
    result = {
        "tokens_per_second": tokens / seconds,
        "seconds_per_step": seconds,
        "tokens_per_step": tokens,
        "mfu": flops(shape, parameters, items) / seconds / PEAK_FLOPS / ranks.world(),
    }
    if device != "cpu":
        result["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return result


def trainer(shape: Shape, device: str, checkpointing: bool) -> tuple[Policy, MasterAdamW, int]:
    """Return a policy (bf16 on a GPU), its optimizer and parameter count."""
    policy = Policy(shape.model(device), device, "float32" if device == "cpu" else "bfloat16", checkpointing)
    parameters = sum(weight.numel() for weight in policy.model.parameters())
    return policy, MasterAdamW(policy.precision, SETTINGS, 1000), parameters


def sft(
    shape: Shape, device: str, budget: int, checkpointing: bool = False, batch: int = 128, steps: int = 5
) -> dict[str, Any]:
    """Run SFT steps: packed batches, float32 masters, AdamW, clipping.

    Batches are packed into `budget` tokens; 0 means that the budget is measured.
    """
    policy, optimizer, parameters = trainer(shape, device, checkpointing)
    allowed = budget or measure_budget(policy)
    items = shape.sequences(batch)
    answers = sum(item.response_length for item in items)
    losses = []

    def step() -> None:
        total = torch.zeros((), device=device)
        for packed in pack(items, allowed, share=ranks.share()):
            loss, _ = policy.cross_entropy(packed.to(device))
            torch.autograd.backward(loss / answers)
            total += loss.detach()
        optimizer.step()
        losses.append(total / answers)

    seconds = timed(device, step, steps)
    outcome = speed(shape, device, parameters, items, seconds) | {"budget": allowed, "ranks": ranks.world()}
    ends = {"first_loss": float(losses[0]), "last_loss": float(losses[-1])}
    return outcome | ranks.reduce_metrics(ends)


def main() -> None:
    """Measure SFT with batches of 16 k tokens, and write the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("train.json"), help="JSON file to write")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand parameters")
    arguments = parser.parse_args()
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    shape, budget = (TINY, 1024) if arguments.tiny else (QWEN_1_5B, 16 * 1024)
    report = {"environment": environment(), "sft": sft(shape, arguments.device, budget)}
    arguments.out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
