"""Float32 masters under a model that computes in another dtype.

One interface, three ways: a float32 model is its own masters; a bf16 model on one device has a float32 copy beside it,
which takes each gradient as soon as backward has made it; under several ranks FSDP2 keeps sharded masters
(`engine.learning.sharding`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn


class Precision(Protocol):
    """What the optimizer sees of a model."""

    masters: dict[str, Tensor]  # float32; under several ranks this rank's shards

    def collect(self) -> Tensor:
        """After the last backward of a step: puts the whole gradient into the masters' `grad`, gives its norm."""

    def publish(self) -> None:
        """Brings the weights that forward uses up to the masters, after these have moved."""

    def clear(self) -> None:
        """Drops the gradients gathered so far."""


class PlainMasters:
    """A float32 model: its parameters are the masters."""

    def __init__(self, network: nn.Module) -> None:
        self.masters: dict[str, Tensor] = dict(network.named_parameters())

    def collect(self) -> Tensor:
        return gradient_norm(self.masters)

    def publish(self) -> None:
        """Nothing to do: they are the same tensors."""

    def clear(self) -> None:
        drop_gradients(self.masters)


class CopiedMasters:
    """A model in `dtype` and a float32 copy that its gradients are added to in float32, microbatch after microbatch.

    A gradient in `dtype` lives only from its making to its adding, so there is no second set of gradients.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self.masters = {name: weight.detach().float() for name, weight in network.named_parameters()}
        cast_parameters(network, dtype)
        self._weights = dict(network.named_parameters())
        for name, weight in self._weights.items():
            weight.register_post_accumulate_grad_hook(_adds_to(self.masters[name]))  # type: ignore[no-untyped-call]

    def collect(self) -> Tensor:
        return gradient_norm(self.masters)

    @torch.no_grad()
    def publish(self) -> None:
        """Rounds every master into its compute weight."""
        torch._foreach_copy_(list(self._weights.values()), list(self.masters.values()))

    def clear(self) -> None:
        drop_gradients(self.masters)


def _adds_to(master: Tensor) -> Callable[[Tensor], None]:
    """A hook that moves a weight's fresh gradient into `master.grad`."""

    def add(weight: Tensor) -> None:
        assert weight.grad is not None
        if master.grad is None:
            master.grad = weight.grad.float()
        else:
            master.grad += weight.grad
        weight.grad = None

    return add


def cast_parameters(network: nn.Module, dtype: torch.dtype) -> None:
    """Puts the parameters into `dtype`, and nothing else: rotary frequencies are buffers and must stay float32."""
    for weight in network.parameters():
        weight.data = weight.data.to(dtype)


def gradients(masters: dict[str, Tensor]) -> list[Tensor]:
    """The gradients that there are."""
    return [master.grad for master in masters.values() if master.grad is not None]


def gradient_norm(masters: dict[str, Tensor]) -> Tensor:
    """Euclidean norm of all gradients together, a scalar."""
    return torch.nn.utils.get_total_norm(gradients(masters))


def drop_gradients(masters: dict[str, Tensor]) -> None:
    """Frees the gradients."""
    for master in masters.values():
        master.grad = None


def master_precision(network: nn.Module, dtype: torch.dtype) -> Precision:
    """Masters for a model on one device whose forward and backward are in `dtype`."""
    return PlainMasters(network) if dtype == torch.float32 else CopiedMasters(network, dtype)
