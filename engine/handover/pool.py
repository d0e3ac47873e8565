"""The slots of one publisher: who holds which, and free ones that are made before they are needed.

A slot of 2.9 GiB takes seconds to allocate and to page-lock, so a thread of its own does that, and nobody else.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.handover.pages import pin_memory, unpin
from engine.handover.slots import Slot, slot_path
from engine.messages import WeightRef


@dataclass(slots=True)
class Page:
    """A slot as torch sees it. `holds` counts who needs its version; 0: free."""

    slot: Slot
    content: Tensor  # uint8 (bytes,)
    pinned: bool
    holds: int = 0


class SlotPool:
    """Slots in `folder`; those for tensors on a GPU are page-locked. It grows when every slot is held."""

    def __init__(self, run_id: str, folder: Path) -> None:
        self._run_id = run_id
        self._folder = folder
        self._pages: list[Page] = []
        self._target = 0  # how many slots there are to be
        self._changed = threading.Condition()  # of all above
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="spare slot")
        self._is_making = False
        self._made: Future[None] | None = None

    def stock(self, count: int, size: int, device: torch.device) -> None:
        """Begins to make slots of `size` bytes until `count` are there besides those that are held now.

        Where there is no room for them, nobody is told before one is needed.
        """
        with self._changed:
            held = sum(page.holds > 0 for page in self._usable(size, device))
            self._target = max(self._target, held + count)
            if not self._is_making and len(self._usable(size, device)) < self._target:
                self._is_making = True
                self._made = self._maker.submit(self._make, size, device)
                self._made.add_done_callback(self._made_or_failed)

    def take(self, size: int, device: torch.device) -> Page:
        """A free page, held once from now on: at once where one is in stock, else when it has been made.

        OSError with its remedy where there is no room for one.
        """
        with self._changed:
            while not (free := self._free(size, device)):
                self.stock(1, size, device)  # not at once where slots of another size are being made
                self._changed.wait_for(lambda: self._free(size, device) or not self._is_making)
                if not self._is_making and self._made is not None and not self._free(size, device):
                    self._made.result()  # raises why there is none
            free[0].holds = 1
            return free[0]

    def hold(self, weights: WeightRef) -> Page:
        """One more user of `weights`; KeyError where they are not published (any more)."""
        with self._changed:
            page = self._page_of(weights)
            page.holds += 1
            return page

    def release(self, weights: WeightRef) -> None:
        """One user less; with the last one the slot is free. KeyError as for `hold`."""
        with self._changed:
            self._page_of(weights).holds -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Removes every slot. A worker that still has one mapped keeps its pages until it lets go."""
        self._maker.shutdown()
        for page in self._pages:
            page.slot.unlink()
            if page.pinned:
                unpin(page.content)
        self._pages.clear()

    def _page_of(self, weights: WeightRef) -> Page:
        for page in self._pages:
            if page.holds and str(page.slot.path) == weights.location:
                return page
        raise KeyError(f"version {weights.version} of arm {weights.arm} is not published: {weights.location}")

    def _usable(self, size: int, device: torch.device) -> list[Page]:
        """Pages for such tensors. Those in host memory may go to a page-locked one."""
        pinned = {True} if device.type == "cuda" else {True, False}
        return [page for page in self._pages if page.slot.size >= size and page.pinned in pinned]

    def _free(self, size: int, device: torch.device) -> list[Page]:
        """Those of them that nobody holds."""
        return [page for page in self._usable(size, device) if not page.holds]

    def _make(self, size: int, device: torch.device) -> None:
        """On the maker's thread: adds pages until there are enough."""
        while self._lacks(size, device):
            slot = Slot(slot_path(self._run_id, len(self._pages), self._folder), size)
            page = Page(slot, torch.frombuffer(slot.memory, dtype=torch.uint8), device.type == "cuda")
            if page.pinned:
                page.content.zero_()  # maps every page: the GPU is held up for as long as CUDA locks them
                with torch.cuda.device(device):  # a thread starts on GPU 0, which may be another's
                    pin_memory(page.content)
            with self._changed:
                self._pages.append(page)
                self._changed.notify_all()

    def _lacks(self, size: int, device: torch.device) -> bool:
        with self._changed:
            self._is_making = len(self._usable(size, device)) < self._target
            return self._is_making

    def _made_or_failed(self, made: Future[None]) -> None:
        if made.exception() is not None:
            with self._changed:
                self._is_making = False
                self._changed.notify_all()
