"""The trainer's ranks: which one this process is, and what they say to each other. Alone, every call is a no-op.

Weights and gradients travel by FSDP2 over the default group (NCCL between GPUs). Words and counts travel in host memory
over a second group, whose patience outlasts a run that is paused and a worker that is started again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch
import torch.distributed as dist

PATIENCE = timedelta(days=30)

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K")

_words: dist.ProcessGroup | None = None  # of host memory; None: the default group


def join(rank: int, world: int, first: str, meeting: Path) -> None:
    """Makes this process rank `rank` of `world`, all of this host; returns when all have met in the file `meeting`.

    `first` is rank 0's device; see `own_device`.
    """
    global _words
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    device = _device(first, rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=world)
    _words = dist.new_group(backend="gloo", timeout=PATIENCE)


def leave() -> None:
    """This process is alone again."""
    global _words
    if dist.is_initialized():
        dist.destroy_process_group()
    _words = None


def rank() -> int:
    """This process among the trainer's; 0 when alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many trainer processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share() -> tuple[int, int]:
    """Which share of a step's microbatches is this rank's: its number, and how many there are."""
    return rank(), world()


def own_device(first: str) -> torch.device:
    """This rank's device, where rank 0's is `first`: GPUs count up, the CPU is everybody's."""
    return _device(first, rank())


def barrier() -> None:
    """Waits until every rank is here."""
    if dist.is_initialized():
        dist.barrier(group=_words)


def told(word: T) -> T:
    """Rank 0's `word`, on every rank."""
    if world() == 1:
        return word
    said = [word]
    dist.broadcast_object_list(said, src=0, group=_words, device=torch.device("cpu"))
    return said[0]


def united(part: Mapping[K, T]) -> dict[K, T]:
    """The entries of every rank's `part`."""
    if world() == 1:
        return dict(part)
    parts: list[Mapping[K, T]] = [{}] * world()
    dist.all_gather_object(parts, part, group=_words)
    return {key: value for each in parts for key, value in each.items()}


def least(value: int) -> int:
    """The smallest of the ranks' values."""
    together = torch.tensor(value)
    if world() > 1:
        dist.all_reduce(together, dist.ReduceOp.MIN, group=_words)
    return int(together)


def merged(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics of the whole step from each rank's share: those named `…/max` are maxima, all others add up."""
    if world() == 1 or not metrics:
        return metrics
    together: dict[str, float] = {}
    for operation, is_max in ((dist.ReduceOp.MAX, True), (dist.ReduceOp.SUM, False)):
        names = sorted(name for name in metrics if name.endswith("/max") == is_max)
        values = torch.tensor([metrics[name] for name in names], dtype=torch.float64)
        dist.all_reduce(values, operation, group=_words)
        together.update(zip(names, values.tolist(), strict=True))
    return together


def by_rank_zero(write: Callable[P, object]) -> Callable[P, None]:
    """`write`, whose effects all ranks share, done by rank 0 alone."""

    @wraps(write)
    def once(*args: P.args, **kwargs: P.kwargs) -> None:
        if rank() == 0:
            write(*args, **kwargs)

    return once


def _device(first: str, rank: int) -> torch.device:
    device = torch.device(first)
    return device if device.index is None else torch.device(device.type, device.index + rank)
