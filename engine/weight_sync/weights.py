"""Publish and read weight versions in shared memory.

    trainer ─▶ WeightPublisher ─▶ slot in /dev/shm ─▶ WeightReader ─▶ worker

A version is immutable, and is published whole or not at all. The trainer publishes version v after v updates
and holds a reference for every job that uses it. A slot without references is reused. Further slots are made
ahead of need (engine/weight_sync/pool.py).
From a GPU the copy goes to page-locked slots on a side stream. The trainer waits for that copy only (2.9 GiB:
0.065 s). The reader's pages are locked as well.
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
from engine.machine.ranks import world
from engine.protocol.messages import WeightRef
from engine.weight_sync.pages import pin_memory, unpin
from engine.weight_sync.pool import SlotPool
from engine.weight_sync.slots import (
    ALIGNMENT,
    MANIFEST_ROOM,
    SHARED_MEMORY,
    Entry,
    map_slot,
    open_slot,
    read_manifest,
    remove_slots,
)


@dataclass(frozen=True, slots=True)
class BorrowedSlot:
    """The slot of a published version, borrowed to write it to a file.

    Attributes:
        weights: the version.
        memory: the whole slot; `read_weights` reads a file of it.
        give_back: releases the version.
    """

    weights: WeightRef
    memory: memoryview
    give_back: Callable[[], None]


class WeightPublisher:
    """Publishes weight versions for the worker; one per run, in the trainer.

    When it is made, it removes slots that this run's dead publishers left.
    """

    def __init__(self, run_id: str, folder: Path = SHARED_MEMORY) -> None:
        remove_slots(run_id, folder)
        self._pool = SlotPool(run_id, folder)
        self._stream: torch.cuda.Stream | None = None

    def publish(self, arm: str, version: int, named_tensors: Iterable[tuple[str, Tensor]]) -> WeightRef:
        """Copy the tensors to a free slot and publish it.

        It returns when the copy is complete, and waits only if no slot is free. The returned reference holds
        the slot until `release`.
        Raises: StageFailed if shared memory is too small for another slot. With several ranks it is OSError:
        the failing rank must exit, so that all do.
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
        # From here to `finish` the header marks the content as partial, so no reader uses a mix of versions.
        page.slot.begin()
        if device.type == "cuda":
            self._copy_from_gpu(page.content, entries, tensors, device)
        else:
            for entry, (_, tensor) in zip(entries, tensors, strict=True):
                _view(page.content, entry).copy_(tensor)
        weights = WeightRef(arm, version, str(page.slot.finish(arm, version, entries)))
        # Making a slot takes seconds, so the next one is begun now, on the pool's thread.
        self._pool.keep_free(1, _bytes(entries), device)
        return weights

    def prepare(self, named_tensors: Iterable[tuple[str, Tensor]], ahead: int = 1) -> None:
        """Begin to make `ahead` free slots for such tensors, on a thread.

        Afterwards one is always in reserve. Page-locking a slot stalls the GPU, 1 s for 2.9 GiB, so it is
        best done before the GPU has work.
        """
        tensors = list(named_tensors)
        self._pool.keep_free(ahead, _bytes(_layout(tensors)), tensors[0][1].device)

    def hold(self, weights: WeightRef) -> None:
        """Add a reference to `weights`.

        Raises: KeyError if they are not published, or were released.
        """
        self._pool.hold(weights)

    def release(self, weights: WeightRef) -> None:
        """Drop a reference to `weights`; the last one frees the slot.

        Raises: KeyError if they are not published.
        """
        self._pool.release(weights)

    def borrow(self, weights: WeightRef) -> BorrowedSlot:
        """Lend `weights` to another thread.

        A reference is held until they are given back.
        Raises: KeyError if they are not published, or were released.
        """
        page = self._pool.hold(weights)
        return BorrowedSlot(weights, memoryview(page.slot.memory), lambda: self.release(weights))

    def close(self) -> None:
        """Remove every slot.

        A worker that has one mapped keeps its pages until it unmaps them.
        """
        self._pool.close()

    def _copy_from_gpu(
        self, content: Tensor, entries: list[Entry], tensors: list[tuple[str, Tensor]], device: torch.device
    ) -> None:
        stream = self._stream = self._stream or torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # The side stream must not read the weights before the optimizer step has written them.
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for entry, (_, tensor) in zip(entries, tensors, strict=True):
                _view(content, entry).copy_(tensor, non_blocking=True)
        # The next optimizer step may overwrite the weights, and the slot may be published, only after the copy.
        stream.synchronize()


@dataclass(frozen=True, slots=True)
class _Mapping:
    """A slot mapped by its reader.

    Attributes:
        file: stays open to show whether the slot still exists.
        content: uint8 (bytes,).
    """

    file: BinaryIO
    memory: mmap.mmap
    content: Tensor


class WeightReader:
    """Reads published weight versions from shared memory, in the worker.

    A slot stays mapped from one version to the next. With `pin` it is also page-locked, for faster copies to
    a GPU. Call `close` at the end.
    """

    def __init__(self, pin: bool = False) -> None:
        self._pin = pin
        # By inode, which does not change when a slot is renamed.
        self._mapped: dict[int, _Mapping] = {}

    def tensors(self, weights: WeightRef) -> dict[str, Tensor]:
        """Return views of the slot's tensors by name, without a copy.

        Do not write to them. They hold this version as long as the publisher holds its reference. Call
        `verify` after the last use to check that.
        Raises: TornWeights unless the version exists, whole.
        """
        mapping = self._mapping(weights)
        entries = read_manifest(mapping.memory, weights.arm, weights.version, weights.location)
        return {entry.name: _view(mapping.content, entry) for entry in entries}

    def verify(self, weights: WeightRef) -> None:
        """Check that the slot still holds this version.

        Raises: TornWeights if it was reused for another version.
        """
        read_manifest(self._mapping(weights).memory, weights.arm, weights.version, weights.location)

    def close(self) -> None:
        """Unmap every slot; views that are still in use keep their pages."""
        for inode in list(self._mapped):
            self._unmap(inode)

    def _mapping(self, weights: WeightRef) -> _Mapping:
        # Opening the location checks that the version is still published; a mapping alone does not show that.
        file = open_slot(weights.location)
        inode = os.fstat(file.fileno()).st_ino
        if inode in self._mapped:
            file.close()
            return self._mapped[inode]
        # Unmap slots that their publisher has removed, because a mapping keeps their memory allocated.
        for known, mapping in list(self._mapped.items()):
            if os.fstat(mapping.file.fileno()).st_nlink == 0:
                self._unmap(known)
        memory = map_slot(file, weights.location)
        content = torch.frombuffer(memory, dtype=torch.uint8)
        if self._pin:
            pin_memory(content)
        self._mapped[inode] = _Mapping(file, memory, content)
        return self._mapped[inode]

    def _unmap(self, inode: int) -> None:
        mapping = self._mapped.pop(inode)
        if self._pin:
            unpin(mapping.content)
        mapping.file.close()


def read_weights(weights: WeightRef) -> dict[str, Tensor]:
    """Map a published version, and return views of its tensors by name.

    For one version only: each call maps the slot again. Do not write to the views. A WeightReader keeps slots
    mapped, and can verify them.
    Raises: TornWeights unless the version exists, whole.
    """
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
    """Return the size of the slot that `entries` need, bytes."""
    return entries[-1].offset + entries[-1].size


def _view(content: Tensor, entry: Entry) -> Tensor:
    dtype: torch.dtype = getattr(torch, entry.dtype)
    return content[entry.offset : entry.offset + entry.size].view(dtype).view(entry.shape)
