"""Handing weights from trainer to worker: immutable versions in shared memory, published whole or not at all.

The trainer publishes version v after v updates and holds it for every job that wants it. A slot whose holds are all
released is written anew; others are made ahead of need (engine/handover/pool.py). From a GPU the copy goes to
page-locked slots on a side stream, and the trainer waits for that copy alone (2.9 GiB: 0.065 s); the reader's pages
are locked likewise.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from engine.context import StageFailed
from engine.handover.pages import pin_memory, unpin
from engine.handover.pool import SlotPool
from engine.handover.slots import (
    ALIGNMENT,
    MANIFEST_ROOM,
    SHARED_MEMORY,
    Entry,
    map_slot,
    open_slot,
    read_manifest,
    remove_slots,
)
from engine.messages import WeightRef
from engine.ranks import world


@dataclass(frozen=True, slots=True)
class Lent:
    """The slot of a published version, for whoever writes it to a file; `give_back` lets the version go."""

    weights: WeightRef
    memory: memoryview  # the whole slot: `read_weights` reads a file of it
    give_back: Callable[[], None]


class WeightPublisher:
    """The trainer's side. One for a run; slots of this run's dead publishers are removed when it starts."""

    def __init__(self, run_id: str, folder: Path = SHARED_MEMORY) -> None:
        remove_slots(run_id, folder)
        self._pool = SlotPool(run_id, folder)
        self._stream: torch.cuda.Stream | None = None

    def publish(self, arm: str, version: int, named_tensors: Iterable[tuple[str, Tensor]]) -> WeightRef:
        """Copies the tensors to a free slot; returns, once it is whole, a reference with one hold on it.

        It waits for a slot only where none is free yet. StageFailed where shared memory is too small for another; of
        several ranks the one that fails must die, so that all do: OSError.
        """
        tensors = [(name, tensor.detach()) for name, tensor in named_tensors]
        entries = _layout(tensors)
        device = tensors[0][1].device
        try:
            page = self._pool.take(_bytes(entries), device)
        except OSError as error:
            if world() > 1:
                raise
            raise StageFailed(error.strerror) from error
        page.slot.begin()
        if device.type == "cuda":
            self._copy_from_gpu(page.content, entries, tensors, device)
        else:
            for entry, (_, tensor) in zip(entries, tensors, strict=True):
                _view(page.content, entry).copy_(tensor)
        weights = WeightRef(arm, version, str(page.slot.finish(arm, version, entries)))
        self._pool.stock(1, _bytes(entries), device)
        return weights

    def prepare(self, named_tensors: Iterable[tuple[str, Tensor]], ahead: int = 1) -> None:
        """Begins to make `ahead` free slots for tensors like these, in a thread; later there is always one in reserve.

        To page-lock a slot holds up work on the GPU, 1 s for 2.9 GiB: best done before there is any.
        """
        tensors = list(named_tensors)
        self._pool.stock(ahead, _bytes(_layout(tensors)), tensors[0][1].device)

    def hold(self, weights: WeightRef) -> None:
        """One more user of `weights`; KeyError where they are not published (any more)."""
        self._pool.hold(weights)

    def release(self, weights: WeightRef) -> None:
        """One user less; with the last one the slot is free. KeyError where they are not published."""
        self._pool.release(weights)

    def lend(self, weights: WeightRef) -> Lent:
        """`weights` to be read by another thread, held until they are given back; KeyError as for `hold`."""
        page = self._pool.hold(weights)
        return Lent(weights, memoryview(page.slot.memory), lambda: self.release(weights))

    def close(self) -> None:
        """Removes every slot. A worker that still has one mapped keeps its pages until it lets go."""
        self._pool.close()

    def _copy_from_gpu(
        self, content: Tensor, entries: list[Entry], tensors: list[tuple[str, Tensor]], device: torch.device
    ) -> None:
        stream = self._stream = self._stream or torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for entry, (_, tensor) in zip(entries, tensors, strict=True):
                _view(content, entry).copy_(tensor, non_blocking=True)
        stream.synchronize()


@dataclass(frozen=True, slots=True)
class _Mapping:
    """A slot as its reader has it; `file` stays open to tell whether the slot still exists."""

    file: BinaryIO
    memory: mmap.mmap
    content: Tensor  # uint8 (bytes,)


class WeightReader:
    """The worker's side. A slot stays mapped (with `pin`, page-locked) from one version to the next."""

    def __init__(self, pin: bool = False) -> None:
        self._pin = pin
        self._mapped: dict[int, _Mapping] = {}  # by inode, which outlives a slot's names

    def tensors(self, weights: WeightRef) -> dict[str, Tensor]:
        """Views of the slot's tensors, not copies, by name; TornWeights unless the version is there, whole.

        They must not be written to, and hold this version for as long as the publisher's hold lasts: `verify` after
        the last use says whether it did.
        """
        mapping = self._mapping(weights)
        entries = read_manifest(mapping.memory, weights.arm, weights.version, weights.location)
        return {entry.name: _view(mapping.content, entry) for entry in entries}

    def verify(self, weights: WeightRef) -> None:
        """TornWeights where the slot has been given to another version meanwhile."""
        read_manifest(self._mapping(weights).memory, weights.arm, weights.version, weights.location)

    def close(self) -> None:
        """Forgets every slot; views that are still in use keep their pages."""
        for inode in list(self._mapped):
            self._forget(inode)

    def _mapping(self, weights: WeightRef) -> _Mapping:
        file = open_slot(weights.location)
        inode = os.fstat(file.fileno()).st_ino
        if inode in self._mapped:
            file.close()
            return self._mapped[inode]
        for known, mapping in list(self._mapped.items()):
            if os.fstat(mapping.file.fileno()).st_nlink == 0:
                self._forget(known)
        memory = map_slot(file, weights.location)
        content = torch.frombuffer(memory, dtype=torch.uint8)
        if self._pin:
            pin_memory(content)
        self._mapped[inode] = _Mapping(file, memory, content)
        return self._mapped[inode]

    def _forget(self, inode: int) -> None:
        mapping = self._mapped.pop(inode)
        if self._pin:
            unpin(mapping.content)
        mapping.file.close()


def read_weights(weights: WeightRef) -> dict[str, Tensor]:
    """Views of a published version's tensors by name, for a reader that wants them once."""
    return WeightReader().tensors(weights)


def _layout(tensors: list[tuple[str, Tensor]]) -> list[Entry]:
    entries, offset = [], MANIFEST_ROOM
    for name, tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        dtype = str(tensor.dtype).removeprefix("torch.")
        entries.append(Entry(name, dtype, tuple(tensor.shape), offset, size))
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    return entries


def _bytes(entries: list[Entry]) -> int:
    """Size of the slot that `entries` need."""
    return entries[-1].offset + entries[-1].size


def _view(content: Tensor, entry: Entry) -> Tensor:
    dtype: torch.dtype = getattr(torch, entry.dtype)
    return content[entry.offset : entry.offset + entry.size].view(dtype).view(entry.shape)
