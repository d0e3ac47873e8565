"""The trainer's ranks under torchrun. A process that is alone needs no process group: every call here is a no-op."""

from __future__ import annotations

import torch
import torch.distributed as dist


def rank() -> int:
    """This process among the trainer's; 0 when alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many trainer processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Waits until every rank is here."""
    if dist.is_initialized():
        dist.barrier()


def merged(metrics: dict[str, float], device: torch.device | str = "cpu") -> dict[str, float]:
    """Metrics of the whole step from each rank's share: those named `…/max` are maxima, all others add up."""
    if world() == 1 or not metrics:
        return metrics
    together: dict[str, float] = {}
    for operation, is_max in ((dist.ReduceOp.MAX, True), (dist.ReduceOp.SUM, False)):
        names = sorted(name for name in metrics if name.endswith("/max") == is_max)
        values = torch.tensor([metrics[name] for name in names], dtype=torch.float64, device=device)
        dist.all_reduce(values, operation)
        together.update(zip(names, values.tolist(), strict=True))
    return together
