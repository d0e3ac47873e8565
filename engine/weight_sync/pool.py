"""The slots of one publisher: reference counts and spare slots.

A slot of 2.9 GiB takes seconds to allocate and to page-lock. A separate thread does that, so other threads do
not wait.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.protocol.messages import WeightRef
from engine.weight_sync.pages import pin_memory, unpin
from engine.weight_sync.slots import Slot, slot_path


@dataclass(slots=True)
class PooledSlot:
    """A slot as a torch tensor.

    Attributes:
        content: uint8 (bytes,).
        pinned: True if it is page-locked.
        holds: number of references to its version; 0 means free.
    """

    slot: Slot
    content: Tensor
    pinned: bool
    holds: int = 0


class SlotPool:
    """The slots of one publisher in `folder`, with reference counts.

    It grows when every slot is held. New slots are made on a thread; those for tensors on a GPU are
    page-locked.
    """

    def __init__(self, run_id: str, folder: Path) -> None:
        self._run_id = run_id
        self._folder = folder
        self._pages: list[PooledSlot] = []
        # Wanted number of slots.
        self._target = 0
        # Guards all fields above.
        self._changed = threading.Condition()
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="spare slot")
        self._is_making = False
        self._made: Future[None] | None = None

    def keep_free(self, count: int, size: int, device: torch.device) -> None:
        """Begin to make `count` free slots of `size` bytes.

        They are in addition to those held now.
        If they do not fit, the error appears when one is needed.
        """
        with self._changed:
            held = sum(page.holds > 0 for page in self._usable(size, device))
            self._target = max(self._target, held + count)
            if not self._is_making and len(self._usable(size, device)) < self._target:
                self._is_making = True
                self._made = self._maker.submit(self._make, size, device)
                self._made.add_done_callback(self._made_or_failed)

    def take(self, size: int, device: torch.device) -> PooledSlot:
        """Return a free slot of `size` bytes with one reference held.

        It waits while a slot is being made.
        Raises: OSError, with the remedy, if shared memory is too small.
        """
        with self._changed:
            while not (free := self._free(size, device)):
                # It does not start at once if slots of another size are being made.
                self.keep_free(1, size, device)
                self._changed.wait_for(lambda: self._free(size, device) or not self._is_making)
                if not self._is_making and self._made is not None and not self._free(size, device):
                    # Raises the reason why no page was made.
                    self._made.result()
            free[0].holds = 1
            return free[0]

    def hold(self, weights: WeightRef) -> PooledSlot:
        """Add a reference to `weights`.

        Raises: KeyError if they are not published, or were released.
        """
        with self._changed:
            page = self._page_of(weights)
            page.holds += 1
            return page

    def release(self, weights: WeightRef) -> None:
        """Drop a reference to `weights`; the last one frees the slot.

        Raises: KeyError if they are not published, or were released.
        """
        with self._changed:
            self._page_of(weights).holds -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Remove every slot.

        A worker that has one mapped keeps its pages until it unmaps them.
        """
        self._maker.shutdown()
        for page in self._pages:
            page.slot.unlink()
            if page.pinned:
                unpin(page.content)
        self._pages.clear()

    def _page_of(self, weights: WeightRef) -> PooledSlot:
        for page in self._pages:
            if page.holds and str(page.slot.path) == weights.location:
                return page
        raise KeyError(f"version {weights.version} of arm {weights.arm} is not published: {weights.location}")

    def _usable(self, size: int, device: torch.device) -> list[PooledSlot]:
        """Return pages for such tensors.

        Those in host memory may use a page-locked one.
        """
        pinned = {True} if device.type == "cuda" else {True, False}
        return [page for page in self._pages if page.slot.size >= size and page.pinned in pinned]

    def _free(self, size: int, device: torch.device) -> list[PooledSlot]:
        """Return the usable pages without references."""
        return [page for page in self._usable(size, device) if not page.holds]

    def _make(self, size: int, device: torch.device) -> None:
        """Add pages until there are enough; runs on the maker's thread."""
        while self._needs_slot(size, device):
            slot = Slot(slot_path(self._run_id, len(self._pages), self._folder), size)
            page = PooledSlot(slot, torch.frombuffer(slot.memory, dtype=torch.uint8), device.type == "cuda")
            if page.pinned:
                # Map every page first: the GPU stalls for as long as CUDA locks them.
                page.content.zero_()
                # A thread starts on GPU 0, which may belong to another process.
                with torch.cuda.device(device):
                    pin_memory(page.content)
            with self._changed:
                self._pages.append(page)
                self._changed.notify_all()

    def _needs_slot(self, size: int, device: torch.device) -> bool:
        with self._changed:
            self._is_making = len(self._usable(size, device)) < self._target
            return self._is_making

    def _made_or_failed(self, made: Future[None]) -> None:
        if made.exception() is not None:
            with self._changed:
                self._is_making = False
                self._changed.notify_all()
