"""Float32 masters under a model that computes in another dtype.

There are three implementations of one interface. A float32 model is its own masters. A bf16 model on one
device has a float32 copy, which takes each gradient as soon as backward has made it. With several ranks FSDP2
keeps sharded masters (`engine.training.sharding`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn


class Precision(Protocol):
    """The optimizer's interface to a model.

    `masters` are float32; with several ranks they are this rank's shards.
    """

    masters: dict[str, Tensor]

    def collect(self) -> Tensor:
        """Put the whole gradient into the masters' `grad`, and return its norm.

        Call it after the last backward of a step.
        """

    def publish(self) -> None:
        """Copy the masters to the weights that forward uses, after an update."""

    def clear(self) -> None:
        """Drop the accumulated gradients."""


class PlainMasters:
    """A float32 model: its parameters are the masters."""

    def __init__(self, network: nn.Module) -> None:
        self.masters: dict[str, Tensor] = dict(network.named_parameters())

    def collect(self) -> Tensor:
        """Return the norm of the gradients, which are already in the masters."""
        return gradient_norm(self.masters)

    def publish(self) -> None:
        """Do nothing: masters and weights are the same tensors."""

    def clear(self) -> None:
        """Drop the accumulated gradients."""
        drop_gradients(self.masters)


class CopiedMasters:
    """A model in `dtype` with a float32 copy.

    The copy accumulates its gradients in float32.
    A gradient in `dtype` is freed as soon as it is added, so no second set of gradients exists.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self.masters = {name: weight.detach().float() for name, weight in network.named_parameters()}
        cast_parameters(network, dtype)
        self._weights = dict(network.named_parameters())
        for name, weight in self._weights.items():
            weight.register_post_accumulate_grad_hook(_adds_to(self.masters[name]))  # type: ignore[no-untyped-call]

    def collect(self) -> Tensor:
        """Return the norm of the gradients.

        Backward has already added them to the masters.
        """
        return gradient_norm(self.masters)

    @torch.no_grad()
    def publish(self) -> None:
        """Round every master into its compute weight."""
        torch._foreach_copy_(list(self._weights.values()), list(self.masters.values()))

    def clear(self) -> None:
        """Drop the accumulated gradients."""
        drop_gradients(self.masters)


def _adds_to(master: Tensor) -> Callable[[Tensor], None]:
    """Return a hook that moves a weight's new gradient into `master.grad`."""

    def add(weight: Tensor) -> None:
        assert weight.grad is not None
        if master.grad is None:
            master.grad = weight.grad.float()
        else:
            master.grad += weight.grad
        weight.grad = None

    return add


def cast_parameters(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert the parameters to `dtype`, but not the buffers.

    Rotary frequencies are buffers and must stay float32.
    """
    for weight in network.parameters():
        weight.data = weight.data.to(dtype)


def gradients(masters: dict[str, Tensor]) -> list[Tensor]:
    """Return the gradients of the masters that have one."""
    return [master.grad for master in masters.values() if master.grad is not None]


def gradient_norm(masters: dict[str, Tensor]) -> Tensor:
    """Return the Euclidean norm of all gradients together, a scalar tensor."""
    return torch.nn.utils.get_total_norm(gradients(masters))


def drop_gradients(masters: dict[str, Tensor]) -> None:
    """Free the gradients of the masters."""
    for master in masters.values():
        master.grad = None


def master_precision(network: nn.Module, dtype: torch.dtype) -> Precision:
    """Return masters for a model on one device.

    Forward and backward run in `dtype`.
    """
    return PlainMasters(network) if dtype == torch.float32 else CopiedMasters(network, dtype)


# mypy checks here that the class has every method of the protocol, with the same types.
_plain: type[Precision] = PlainMasters
_copied: type[Precision] = CopiedMasters
