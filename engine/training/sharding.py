"""Several trainer ranks with FSDP2.

FSDP2 shards masters, gradients and moments. Forward gathers weights in the compute dtype. Losses divide by
the whole step's counts (`engine.training.losses.Totals`), so gradients are summed over ranks, not averaged.
Each layer is gathered for its turn and freed after it. A mesh of one rank works in the same way.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from engine.machine.ranks import world
from engine.training.precision import Precision, drop_gradients, gradient_norm


class ShardedMasters:
    """This rank's shards of the masters of `network`.

    `layers` are its decoder layers.
    """

    def __init__(
        self, network: nn.Module, layers: list[nn.Module], dtype: torch.dtype, device: torch.device
    ) -> None:
        mesh = init_device_mesh(device.type, (world(),))
        mixed = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for part in (*layers, network):
            fully_shard(part, mesh=mesh, mp_policy=mixed)
        for part in network.modules():
            if isinstance(part, FSDPModule):
                part.set_gradient_divide_factor(1.0)
                # gloo supports no other reduction.
                part.set_force_sum_reduction_for_comms(True)
        self._weights = {
            name: weight for name, weight in network.named_parameters() if isinstance(weight, DTensor)
        }
        self.masters = {name: weight.to_local().detach() for name, weight in self._weights.items()}

    def collect(self) -> Tensor:
        """Collect the shards' gradients and return their norm over all ranks."""
        for name, weight in self._weights.items():
            if isinstance(weight.grad, DTensor):
                self.masters[name].grad = weight.grad.to_local()
        square = gradient_norm(self.masters).square()
        dist.all_reduce(square)
        return square.sqrt()

    def publish(self) -> None:
        """Do nothing: the shards are the masters.

        The next forward gathers them again.
        """

    def clear(self) -> None:
        """Drop the gradients of FSDP's weights and of the masters."""
        drop_gradients(self.masters)
        drop_gradients(dict(self._weights))


def whole(weight: Tensor) -> Tensor:
    """Return `weight` with its original shape, gathered from all ranks.

    A weight that is not sharded is returned unchanged. Every rank must call it.
    """
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


# mypy checks here that the class has every method of the protocol, with the same types.
_sharded: type[Precision] = ShardedMasters
