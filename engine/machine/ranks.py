"""The number of this trainer rank, and collectives between ranks.

With a single rank, every call is a no-op. FSDP2 sends weights and gradients over the default group (NCCL
between GPUs). Commands and counts use a second group in host memory. Its timeout outlasts a paused run and a
worker restart.
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

# The process group in host memory. None stands for the default group.
_host_group: dist.ProcessGroup | None = None


def join_group(rank: int, world: int, first: str, rendezvous: Path) -> None:
    """Join `world` processes of this host as rank `rank`.

    Wait until all have joined.
    Args:
        first: the device of rank 0; see `own_device`.
        rendezvous: the file through which the ranks find each other.
    """
    global _host_group
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    device = _device(first, rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    _host_group = dist.new_group(backend="gloo", timeout=PATIENCE)


def leave_group() -> None:
    """Leave the process group, so that this process is a single rank again."""
    global _host_group
    if dist.is_initialized():
        dist.destroy_process_group()
    _host_group = None


def rank() -> int:
    """Return the rank of this process; 0 for a single rank."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Return the number of trainer processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share() -> tuple[int, int]:
    """Return (number, count): this rank takes share `number` of `count`.

    A step's microbatches are divided into that many shares, counted from 0.
    """
    return rank(), world()


def own_device(first: str) -> torch.device:
    """Return this rank's device, given rank 0's.

    GPU numbers count up, and all ranks share the CPU.
    """
    return _device(first, rank())


def barrier() -> None:
    """Wait until every rank has called this function."""
    if dist.is_initialized():
        dist.barrier(group=_host_group)


def broadcast(word: T) -> T:
    """Return rank 0's `word` on every rank.

    Every rank must call it; the arguments of the others are ignored. The object must be picklable.
    """
    if world() == 1:
        return word
    parcel = [word]
    dist.broadcast_object_list(parcel, src=0, group=_host_group, device=torch.device("cpu"))
    return parcel[0]


def gather(part: Mapping[K, T]) -> dict[K, T]:
    """Return the merged entries of every rank's `part`, on every rank.

    Every rank must call it. The keys of the ranks should differ; else the highest rank's value counts.
    """
    if world() == 1:
        return dict(part)
    parts: list[Mapping[K, T]] = [{}] * world()
    dist.all_gather_object(parts, part, group=_host_group)
    return {key: value for each in parts for key, value in each.items()}


def all_min(value: int) -> int:
    """Return the smallest `value` of all ranks; every rank must call it."""
    reduced = torch.tensor(value)
    if world() > 1:
        dist.all_reduce(reduced, dist.ReduceOp.MIN, group=_host_group)
    return int(reduced)


def reduce_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """Reduce metrics over the ranks; every rank must call it.

    Names that end in `/max` take the maximum, all others the sum. The names must be the same on every rank.
    """
    if world() == 1 or not metrics:
        return metrics
    reduced: dict[str, float] = {}
    for operation, is_max in ((dist.ReduceOp.MAX, True), (dist.ReduceOp.SUM, False)):
        names = sorted(name for name in metrics if name.endswith("/max") == is_max)
        values = torch.tensor([metrics[name] for name in names], dtype=torch.float64)
        dist.all_reduce(values, operation, group=_host_group)
        reduced.update(zip(names, values.tolist(), strict=True))
    return reduced


def by_rank_zero(write: Callable[P, object]) -> Callable[P, None]:
    """Wrap `write` so that only rank 0 executes it.

    It is for effects that all ranks share, such as files.
    """

    @wraps(write)
    def once(*args: P.args, **kwargs: P.kwargs) -> None:
        if rank() == 0:
            write(*args, **kwargs)

    return once


def _device(first: str, rank: int) -> torch.device:
    device = torch.device(first)
    return device if device.index is None else torch.device(device.type, device.index + rank)
