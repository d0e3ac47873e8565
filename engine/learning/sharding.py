"""Several trainer ranks: FSDP2 shards masters, gradients and moments; forward gathers weights in the compute dtype.

Losses divide by the whole step's counts (`engine.learning.losses.Totals`), so gradients are summed over the ranks, not
averaged. Each layer is gathered when its turn comes and let go after it; a mesh of one rank works alike.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from engine.learning.precision import drop_gradients, gradient_norm
from engine.ranks import world


class ShardedMasters:
    """This rank's shards of the masters of `network`, whose decoder layers are `layers`."""

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
                part.set_force_sum_reduction_for_comms(True)  # gloo knows no other reduction
        self._weights = {
            name: weight for name, weight in network.named_parameters() if isinstance(weight, DTensor)
        }
        self.masters = {name: weight.to_local().detach() for name, weight in self._weights.items()}

    def collect(self) -> Tensor:
        """The shards' gradients; the norm is over all ranks."""
        for name, weight in self._weights.items():
            if isinstance(weight.grad, DTensor):
                self.masters[name].grad = weight.grad.to_local()
        square = gradient_norm(self.masters).square()
        dist.all_reduce(square)
        return square.sqrt()

    def publish(self) -> None:
        """Nothing to do: the shards are the masters, and the next forward gathers them anew."""

    def clear(self) -> None:
        """Drops the gradients, FSDP's and the masters' alike."""
        drop_gradients(self.masters)
        drop_gradients(dict(self._weights))


def whole(weight: Tensor) -> Tensor:
    """`weight` gathered from all ranks (every rank must ask), or as it is where it is not sharded."""
    return weight.full_tensor() if isinstance(weight, DTensor) else weight
