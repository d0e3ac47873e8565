"""Page-locked host memory, and the release of a GPU.

A GPU copies to and from page-locked memory directly, in parallel with its computation.
"""

from __future__ import annotations

import ctypes
import threading

import torch
from torch import Tensor

# Guards `_locked`: slots and images are made on their own threads.
_changing = threading.Lock()
# Addresses of locked memory.
_locked: set[int] = set()


def pin_memory(content: Tensor) -> None:
    """Page-lock memory that already exists.

    Raises: RuntimeError if CUDA refuses.
    """
    with _changing:
        torch.cuda.check_error(torch.cuda.cudart().cudaHostRegister(content.data_ptr(), content.numel(), 0))  # type: ignore[no-untyped-call]
        _locked.add(content.data_ptr())


def unpin(content: Tensor) -> None:
    """Undo `pin_memory`; do nothing if the memory is not locked."""
    with _changing:
        if content.data_ptr() in _locked:
            _locked.remove(content.data_ptr())
            torch.cuda.check_error(torch.cuda.cudart().cudaHostUnregister(content.data_ptr()))  # type: ignore[no-untyped-call]


def release_gpu(device: torch.device) -> None:
    """Release this process's GPU context (half a GiB) and locked pages.

    Call it before a slow write at the end of the process. No CUDA call may follow. If the driver refuses, the
    GPU is released when the process exits.
    """
    torch.cuda.synchronize(device)
    with _changing:
        _locked.clear()
        ctypes.CDLL("libcuda.so.1").cuDevicePrimaryCtxReset_v2(device.index)
