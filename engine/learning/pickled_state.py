"""The trainer's state in checkpoints of older versions: a pickle, read without running what is in it.

torch's restricted unpickler builds plain values, tensors and the classes that are named here, whose constructors store
fields and do nothing else. Anything else is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from engine.learning.plain import KINDS, Stored

_NUMPY: list[Callable[..., Any]] = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in "?bhilqBHILQefdU"},
]


class Refused(ValueError):
    """The file would have to run code to be read; the message names it."""


def read_pickled_state(path: Path) -> dict[str, Any]:
    """Return the state in `path`.

    Raises: Refused if it holds more than plain values; OSError, EOFError or RuntimeError if it cannot be read.
    """
    with torch.serialization.safe_globals(_allowed()):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            raise Refused(
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
