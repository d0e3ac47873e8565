"""The experiment's stages by name.

A new stage is one file here and one line below.
Each module is imported when its stage starts. So only the trainer process imports torch, and not even for
`data`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from engine.context import Context

StageFunction = Callable[[Context], None]

MODULES = {
    "data": "engine.stages.data",
    "traces": "engine.stages.traces",
    "pretrain": "engine.stages.pretrain",
    "preprocess": "engine.stages.preprocess",
    "sft": "engine.stages.sft",
    "grpo": "engine.stages.grpo",
    "eval": "engine.stages.eval",
}


def stage(name: str) -> StageFunction:
    """Return the function that runs stage `name`.

    Raises: KeyError if the name is unknown.
    """
    run: StageFunction = import_module(MODULES[name]).run
    return run
