"""Page-locked host memory: what a GPU copies to and from directly, beside its computing."""

from __future__ import annotations

import torch
from torch import Tensor


def pin_memory(content: Tensor) -> None:
    """Page-locks memory that is there already; RuntimeError where CUDA refuses."""
    torch.cuda.check_error(torch.cuda.cudart().cudaHostRegister(content.data_ptr(), content.numel(), 0))  # type: ignore[no-untyped-call]


def unpin(content: Tensor) -> None:
    """Undoes `pin_memory`."""
    torch.cuda.check_error(torch.cuda.cudart().cudaHostUnregister(content.data_ptr()))  # type: ignore[no-untyped-call]
