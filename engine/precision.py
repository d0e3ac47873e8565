"""Float32 masters under a model that computes in another dtype.

One interface, three ways: a float32 model is its own masters; a bf16 model on one device has a float32 copy beside it,
which gathers each gradient as soon as backward has made it; FSDP2 (`engine.sharding`) keeps sharded masters itself.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class Precision(Protocol):
    """What the optimizer sees of a model."""

    masters: dict[str, Tensor]  # float32; `grad` is set after backward

    def publish(self) -> None:
        """Brings the weights that forward uses up to the masters, after these have moved."""


class PlainMasters:
    """A float32 model: its parameters are the masters."""

    def __init__(self, network: nn.Module) -> None:
        self.masters: dict[str, Tensor] = dict(network.named_parameters())

    def publish(self) -> None:
        """Nothing to do: they are the same tensors."""


class CopiedMasters:
    """A model in `dtype` and a float32 copy that its gradients are added to in float32, microbatch after microbatch.

    A gradient in `dtype` lives only from its making to its adding, so there is no second set of gradients.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self.masters = {name: weight.detach().float().clone() for name, weight in network.named_parameters()}
        network.to(dtype)
        self._weights = dict(network.named_parameters())
        for name, weight in self._weights.items():
            weight.register_post_accumulate_grad_hook(_adds_to(self.masters[name]))

    @torch.no_grad()
    def publish(self) -> None:
        """Rounds every master into its compute weight."""
        torch._foreach_copy_(list(self._weights.values()), list(self.masters.values()))


def _adds_to(master: Tensor):  # type: ignore[no-untyped-def]
    def add(weight: Tensor) -> None:
        assert weight.grad is not None
        if master.grad is None:
            master.grad = weight.grad.float()
        else:
            master.grad += weight.grad
        weight.grad = None

    return add


def master_precision(network: nn.Module, dtype: torch.dtype) -> Precision:
    """Masters for a model on one device whose forward and backward are in `dtype`."""
    return PlainMasters(network) if dtype == torch.float32 else CopiedMasters(network, dtype)
