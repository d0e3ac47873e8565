"""Read the trainer's state from checkpoints of older versions.

These are pickles, and are read without running code from them. torch's restricted unpickler builds plain
values, tensors and the classes listed here. Their constructors only store fields. Anything else is rejected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from pickletools import genops
from typing import Any

import numpy as np
import torch

from engine.training.plain import KINDS, Stored

_NUMPY: list[Callable[..., Any]] = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in "?bhilqBHILQefdU"},
]


# The first bytes of a zip file.
_ARCHIVE = b"PK"
_OTHERS = (
    "Python objects other than tensors and numbers; not loaded, because that could run code; the weights beside it "
    "stay readable: train them on in a new run"
)


class UnsafePickle(ValueError):
    """Reading the file would run code; the message names the file."""


def read_pickled_state(path: Path) -> dict[str, Any]:
    """Return the state in `path`.

    Raises: UnsafePickle if it holds more than plain values; OSError, EOFError or RuntimeError if it cannot be
        read.
    """
    with torch.serialization.safe_globals(_allowed()):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            raise UnsafePickle(f"{path}: contains {_OTHERS}") from error
    return state


def refuse_plain_pickle(path: Path) -> None:
    """Raise UnsafePickle if `path` is a pickle without torch's archive.

    No version wrote one, and a pickle can run code when it is loaded. So it is not a damaged archive.
    The opcodes are only listed here; none is executed.
    """
    with path.open("rb") as file:
        if file.read(2) == _ARCHIVE:
            return
        file.seek(0)
        try:
            # It ends with the pickle's STOP, or raises.
            deque(genops(file), maxlen=0)
        except (ValueError, LookupError, EOFError, OverflowError):
            return
    raise UnsafePickle(f"{path}: is a plain pickle, which can contain {_OTHERS}")


def _allowed() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    reconstruct = np.empty(0).__reduce__()[0]
    assert callable(reconstruct)
    return [
        *_NUMPY,
        *KINDS.values(),
        (Stored, "engine.learning.checkpoint.Stored"),
        (reconstruct, "numpy.core.multiarray._reconstruct"),
        (reconstruct, "numpy._core.multiarray._reconstruct"),
    ]
