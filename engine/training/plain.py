"""A trainer's state as JSON and arrays.

    {"step": 3, "rng": (array, 7)}  ─▶  {"dict": [["step", 3], ["rng", {"tuple": [{"array": "0"}, 7]}]]}
                                    and {"0": array}

Reading it runs no code, unlike a pickle. Numbers, strings, None and lists are stored as JSON. Any other value
is an object with one key, its kind. Only the classes of KINDS can be restored: their constructors only store
fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.protocol.messages import Completion, JobDone, Prompt
from engine.training.rollouts import RolloutBatch

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Stored:
    """A placeholder for a tensor that the tensor files hold under `name`."""

    name: str


KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Stored, RolloutBatch, Prompt, Completion, JobDone)
}


def encode(value: Any, arrays: Arrays) -> Any:
    """Convert `value` to JSON, and add its arrays to `arrays`.

    Tensors are added too.
    Raises: TypeError for a value of another kind.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list):
        return [encode(each, arrays) for each in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(each, arrays) for each in value]}
    if isinstance(value, Mapping):
        return {"dict": [[encode(key, arrays), encode(each, arrays)] for key, each in value.items()]}
    if isinstance(value, torch.Tensor):
        return {"tensor": _stored(value.cpu().numpy(), arrays)}
    if isinstance(value, np.ndarray):
        return {"array": _stored(value, arrays)}
    name = type(value).__name__
    if KINDS.get(name) is not type(value):
        raise TypeError(f"a trainer's state holds a {name}, which a checkpoint cannot store")
    return {name: {field.name: encode(getattr(value, field.name), arrays) for field in fields(value)}}


def decode(plain: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return the value that `encode` received.

    Raises: LookupError, TypeError or ValueError for anything else.
    """
    if isinstance(plain, list):
        return [decode(each, arrays) for each in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    if kind == "tuple":
        return tuple(decode(each, arrays) for each in content)
    if kind == "dict":
        return {decode(key, arrays): decode(each, arrays) for key, each in content}
    if kind == "array":
        return arrays[content].copy()
    if kind == "tensor":
        return torch.from_numpy(arrays[content].copy())
    return KINDS[kind](**{name: decode(each, arrays) for name, each in content.items()})


def _stored(array: NDArray[Any], arrays: Arrays) -> str:
    name = str(len(arrays))
    arrays[name] = array
    return name
