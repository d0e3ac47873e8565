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
    """See engine.weight_sync.weights.WeightPublisher."""

    def publish(self, arm: str, version: int, named_tensors: Iterable[tuple[str, Tensor]]) -> WeightRef: ...
    def prepare(self, named_tensors: Iterable[tuple[str, Tensor]], ahead: int = 1) -> None: ...
    def hold(self, weights: WeightRef) -> None: ...
    def release(self, weights: WeightRef) -> None: ...
    def borrow(self, weights: WeightRef) -> BorrowedSlot: ...
    def close(self) -> None: ...


class FollowerPublisher:
    """The publisher of a follower rank.

    It only takes part in gathering shards.
    It iterates over the tensors, because each is whole only if every rank requests it.
    """

    def publish(self, arm: str, version: int, named_tensors: Iterable[tuple[str, Tensor]]) -> WeightRef:
        deque(named_tensors, maxlen=0)
        return WeightRef(arm, version, "")

    def prepare(self, named_tensors: Iterable[tuple[str, Tensor]], ahead: int = 1) -> None:
        deque(named_tensors, maxlen=0)

    def hold(self, weights: WeightRef) -> None:
        return None

    def release(self, weights: WeightRef) -> None:
        return None

    def borrow(self, weights: WeightRef) -> BorrowedSlot:
        return BorrowedSlot(weights, memoryview(b""), lambda: None)

    def close(self) -> None:
        return None


def publisher_of(run_id: str) -> Publisher:
    """Return the publisher of a run's trainer on this rank."""
    return WeightPublisher(run_id) if rank() == 0 else FollowerPublisher()


# mypy checks here that the class has every method of the protocol, with the same types.
_writing: type[Publisher] = WeightPublisher
_gathering: type[Publisher] = FollowerPublisher
