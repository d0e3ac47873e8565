"""Page-locked host memory, what a GPU copies to and from directly, beside its computing; and the end of a GPU's use."""

from __future__ import annotations

import ctypes
import threading

import torch
from torch import Tensor

_changing = threading.Lock()  # of what is locked: slots and images are made on threads of their own
_locked: set[int] = set()  # addresses


def pin_memory(content: Tensor) -> None:
    """Page-locks memory that is there already; RuntimeError where CUDA refuses."""
    with _changing:
        torch.cuda.check_error(torch.cuda.cudart().cudaHostRegister(content.data_ptr(), content.numel(), 0))  # type: ignore[no-untyped-call]
        _locked.add(content.data_ptr())


def unpin(content: Tensor) -> None:
    """Undoes `pin_memory`; memory that is not locked, or not any more, stays as it is."""
    with _changing:
        if content.data_ptr() in _locked:
            _locked.remove(content.data_ptr())
            torch.cuda.check_error(torch.cuda.cudart().cudaHostUnregister(content.data_ptr()))  # type: ignore[no-untyped-call]


def leave(device: torch.device) -> None:
    """Gives back all that this process has of a GPU, its context (half a GiB) too, and lets every locked page go.

    For who has computed his last and still has something to write, so that the GPU is free meanwhile: nothing of CUDA
    may be used afterwards. Where the driver refuses, the GPU is free when the process ends.
    """
    torch.cuda.synchronize(device)
    with _changing:
        _locked.clear()
        ctypes.CDLL("libcuda.so.1").cuDevicePrimaryCtxReset_v2(device.index)
