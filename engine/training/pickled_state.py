"""Read the trainer's state from checkpoints of older versions.

These are pickles, and are read without running code from them. torch's restricted unpickler builds plain
values, tensors and the classes listed here. Their constructors only store fields. Anything else is rejected.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from engine.training.plain import KINDS, Stored

_NUMPY: list[Callable[..., Any]] = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in "?bhilqBHILQefdU"},
]


class UnsafePickle(ValueError):
    """Reading the file would run code; the message names the file."""


def read_pickled_state(path: Path) -> dict[str, Any]:
    """Return the state in `path`.

    Raises: Refused if it holds more than plain values; OSError, EOFError or RuntimeError if it cannot be
        read.
    """
    with torch.serialization.safe_globals(_allowed()):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            raise UnsafePickle(
                f"{path}: this pickle holds more than a trainer's state, and reading it could run code; "
                "its weights stay readable; train them on in a new run"
            ) from error
    return state


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
