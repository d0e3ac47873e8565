"""The publisher of weights: the trainer, or the first of several ranks.

The other ranks help to gather sharded weights.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from torch import Tensor

from engine.machine.ranks import rank
from engine.protocol.messages import WeightRef
from engine.weight_sync.weights import BorrowedSlot, WeightPublisher


class Publisher(Protocol):
    """The interface of a publisher, which `WeightPublisher` implements."""

    def publish(self, arm: str, version: int, named_tensors: Iterable[tuple[str, Tensor]]) -> WeightRef:
        """Publish weights as `version` of `arm`, with one reference held.

        Every rank must call, because sharded tensors are gathered.
        """

    def prepare(self, named_tensors: Iterable[tuple[str, Tensor]], ahead: int = 1) -> None:
        """Begin to make `ahead` free slots for such tensors; return at once."""

    def hold(self, weights: WeightRef) -> None:
        """Add a reference to `weights`."""

    def release(self, weights: WeightRef) -> None:
        """Drop a reference to `weights`; the last one frees the slot."""

    def borrow(self, weights: WeightRef) -> BorrowedSlot:
        """Lend the slot of `weights` to another thread, until it is given back."""

    def close(self) -> None:
        """Remove every slot."""


class FollowerPublisher:
    """The publisher of a follower rank.

    It only takes part in gathering shards.
    It iterates over the tensors, because each is whole only if every rank requests it.
    """

    def publish(self, arm: str, version: int, named_tensors: Iterable[tuple[str, Tensor]]) -> WeightRef:
        """Gather the shards with the other ranks; return a reference to nothing."""
        deque(named_tensors, maxlen=0)
        return WeightRef(arm, version, "")

    def prepare(self, named_tensors: Iterable[tuple[str, Tensor]], ahead: int = 1) -> None:
        """Gather the shards with the other ranks; make no slots."""
        deque(named_tensors, maxlen=0)

    def hold(self, weights: WeightRef) -> None:
        """Do nothing: rank 0 counts the references."""

    def release(self, weights: WeightRef) -> None:
        """Do nothing: rank 0 counts the references."""

    def borrow(self, weights: WeightRef) -> BorrowedSlot:
        """Return an empty slot: rank 0 writes the weights."""
        return BorrowedSlot(weights, memoryview(b""), lambda: None)

    def close(self) -> None:
        """Do nothing: only rank 0 has slots."""


def publisher_of(run_id: str) -> Publisher:
    """Return the publisher of a run's trainer on this rank."""
    return WeightPublisher(run_id) if rank() == 0 else FollowerPublisher()


# mypy checks here that the class has every method of the protocol, with the same types.
_writing: type[Publisher] = WeightPublisher
_gathering: type[Publisher] = FollowerPublisher
