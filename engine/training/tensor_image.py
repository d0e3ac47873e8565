"""Copy tensors to host memory in the safetensors layout, then write them.

Training stops for the copy only; the write may run in parallel. A checkpoint is 14 bytes per parameter. It
needs no pickling and reuses the same host memory each time, which is page-locked for a GPU after its first
use.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.artifacts.digests import Digest
from engine.training.direct_io import BLOCK, aligned, write_durably
from engine.weight_sync.pages import pin_memory, unpin

_LENGTH = struct.Struct("<Q")
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}


class TensorImage:
    """Holds one set of tensors at a time."""

    def __init__(self) -> None:
        self._content = torch.empty(0, dtype=torch.uint8)
        self._size = 0
        self._header = b""
        # The GPU that the tensors were copied from.
        self._device: torch.device | None = None
        self._pinned = False

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the image's tensors by a copy of `tensors`, in host memory.

        They are float32 or bfloat16, on any device. It returns when the copy is complete.
        """
        # Wide items first, so that each tensor starts at a multiple of its item size.
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
        """Allocate `size` bytes of host memory, page-locked if `device` is a GPU.

        New memory costs 0.7 s per GiB.
        """
        self._device, self._size = (device if device.type == "cuda" else None), size
        self._make_room(size)
        self._content.zero_()
        self.lock_pages()

    def write(self, path: Path) -> Digest:
        """Write the copy as a safetensors file, sync it and return its digest.

        Other threads run during the write.
        Raises: OSError if the file cannot be written.
        """
        header = aligned(len(self._header))
        header.numpy()[:] = np.frombuffer(self._header, dtype=np.uint8)
        return write_durably(path, [header.numpy().data, self._content.numpy().data[: self._size]])

    def lock_pages(self) -> None:
        """Page-lock the memory.

        It makes later copies from a GPU several times as fast.
        Call it after a first use, when the pages exist.
        """
        if self._device is not None and self._size and not self._pinned:
            # A thread starts on GPU 0, which may belong to another process.
            with torch.cuda.device(self._device):
                pin_memory(self._content)
            self._pinned = True

    def _make_room(self, size: int) -> None:
        if size > len(self._content):
            self.close()
            self._content = aligned(size)

    def close(self) -> None:
        """Free the memory."""
        if self._pinned:
            unpin(self._content)
            self._pinned = False
        self._content = torch.empty(0, dtype=torch.uint8)


def _header(places: dict[str, object]) -> bytes:
    """Return the length, then JSON, padded with blanks to a multiple of BLOCK.

    The data that follows can then be written without a copy.
    Source: https://github.com/huggingface/safetensors, "Format".
    """
    text = json.dumps({"__metadata__": {"format": "pt"}, **places}).encode()
    text += b" " * (-(len(text) + _LENGTH.size) % BLOCK)
    return _LENGTH.pack(len(text)) + text
