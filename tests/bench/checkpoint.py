"""Measure how long a checkpoint stops the trainer and takes to write.

The speed of `dd` on the same disk is measured for comparison.

    python -m tests.bench.checkpoint --folder artifacts --out checkpoint.json  # 1.54 B parameters, cuda:0
    python -m tests.bench.checkpoint --folder artifacts --device cpu --layers 2 --out x.json

The first save copies into new memory, as in a run that is stopped early. Later saves from a GPU copy into
page-locked memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.bench.shapes import QWEN_1_5B, Shape
from engine.training import checkpoint
from engine.training.checkpoint_writer import CheckpointWriter
from engine.training.optimizer import MasterAdamW
from engine.training.policy import Policy
from profiles.training import Sft


def saves(shape: Shape, device: str, folder: Path, count: int) -> list[dict[str, float]]:
    """Return the cost of each of `count` checkpoints.

    It is the seconds that the checkpoint held the trainer, the seconds that it took, and its gigabytes.
    """
    policy = Policy(shape.model(device), device, "bfloat16")
    optimizer = MasterAdamW(policy.precision, Sft(), count)
    for master in policy.precision.masters.values():
        master.grad = torch.zeros_like(master)
    # After this step the optimizer has moments.
    optimizer.step()
    writer = CheckpointWriter(folder, keep=1)
    found = []
    for step in range(count):
        began = time.perf_counter()
        writer.save(step, policy, None, optimizer, {})
        held = time.perf_counter() - began
        (writer.close if step == count - 1 else writer.wait)()
        whole = time.perf_counter() - began
        found.append({"held_seconds": held, "whole_seconds": whole, "gigabytes": _size(folder, step) / 1e9})
    return found


def dd(folder: Path, gigabytes: float) -> float:
    """Return the seconds in which dd writes as much, directly and synced."""
    path = folder / "dd"
    command = ["dd", "if=/dev/zero", f"of={path}", "bs=64M", f"count={gigabytes * 1e9 / (64 << 20):.0f}"]
    began = time.perf_counter()
    subprocess.run([*command, "oflag=direct", "conv=fsync"], check=True, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    path.unlink()
    return seconds


def _size(folder: Path, step: int) -> int:
    return sum(path.stat().st_size for path in checkpoint.path_of(folder, step).iterdir())


def main() -> None:
    """Measure, and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="on the disk to be measured")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--layers", type=int, default=QWEN_1_5B.layers, help="of Qwen2.5-Math-1.5B's 28")
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    shape = replace(QWEN_1_5B, layers=arguments.layers)
    report: dict[str, Any] = {"device": arguments.device, "layers": arguments.layers}
    with tempfile.TemporaryDirectory(prefix="checkpoint-", dir=arguments.folder) as folder:
        report["saves"] = saves(shape, arguments.device, Path(folder), arguments.saves)
        report["dd_seconds"] = dd(Path(folder), report["saves"][-1]["gigabytes"])
    arguments.out.write_text(json.dumps(report, indent=1))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
