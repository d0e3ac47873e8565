"""Tensors on their way to a file: copied once into host memory, end to end as safetensors lays them out, then written.

The copy holds whoever computes on the tensors; the writing may go on beside him. A checkpoint is 14 bytes a parameter:
no pickling, and the same host memory is used again each time, page-locked for a GPU after its first use.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.digests import Digest
from engine.handover.pages import pin_memory, unpin
from engine.learning.direct_io import BLOCK, aligned, write_durably

_LENGTH = struct.Struct("<Q")
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}


class TensorImage:
    """One set of tensors at a time."""

    def __init__(self) -> None:
        self._content = torch.empty(0, dtype=torch.uint8)
        self._size = 0
        self._header = b""
        self._device: torch.device | None = None  # the GPU that was copied from
        self._pinned = False

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Copies float32 and bfloat16 `tensors` from whatever device they are on; returns when that is done."""
        # Wide ones first, so that each starts at a multiple of its item's size.
        ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
        self._size = sum(tensor.nbytes for _, tensor in ordered)
        self._make_room(self._size)
        places: dict[str, object] = {}
        offset = 0
        for name, tensor in ordered:
            end = offset + tensor.nbytes
            place = self._content[offset:end].view(tensor.dtype).view(tensor.shape)
            place.copy_(tensor.detach(), non_blocking=True)
            places[name] = {
                "dtype": _DTYPES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [offset, end],
            }
            offset = end
            if tensor.is_cuda:
                self._device = tensor.device
        if self._device is not None:
            torch.cuda.synchronize(self._device)
        self._header = _header(places)

    def prepare(self, size: int, device: torch.device) -> None:
        """Makes room for `size` bytes, page-locked for a GPU. Memory that is new costs 0.7 s a GiB."""
        self._device, self._size = (device if device.type == "cuda" else None), size
        self._make_room(size)
        self._content.zero_()
        self.lock_pages()

    def write(self, path: Path) -> Digest:
        """Write what was taken as a safetensors file and return its digest when it is on the disk.

        Other threads run meanwhile.
        """
        header = aligned(len(self._header))
        header.numpy()[:] = np.frombuffer(self._header, dtype=np.uint8)
        return write_durably(path, [header.numpy().data, self._content.numpy().data[: self._size]])

    def lock_pages(self) -> None:
        """Makes later copies from a GPU several times as fast. After a first use, when the pages are there already."""
        if self._device is not None and self._size and not self._pinned:
            with torch.cuda.device(self._device):  # a thread starts on GPU 0, which may be another's
                pin_memory(self._content)
            self._pinned = True

    def _make_room(self, size: int) -> None:
        if size > len(self._content):
            self.close()
            self._content = aligned(size)

    def close(self) -> None:
        """Lets the memory go."""
        if self._pinned:
            unpin(self._content)
            self._pinned = False
        self._content = torch.empty(0, dtype=torch.uint8)


def _header(places: dict[str, object]) -> bytes:
    """Length, then JSON, filled up with blanks (https://github.com/huggingface/safetensors, "Format").

    It ends with a BLOCK, so that what follows can be written from where it lies.
    """
    text = json.dumps({"__metadata__": {"format": "pt"}, **places}).encode()
    text += b" " * (-(len(text) + _LENGTH.size) % BLOCK)
    return _LENGTH.pack(len(text)) + text
