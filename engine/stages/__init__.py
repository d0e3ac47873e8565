"""The experiment's stages by name. A new stage is one file here and one line below.

The modules are imported when their stage begins: only the trainer process pays for torch, and `data` not even there.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from engine.context import Context

Stage = Callable[[Context], None]

MODULES = {
    "data": "engine.stages.data",
    "traces": "engine.stages.traces",
    "pretrain": "engine.stages.pretrain",
    "preprocess": "engine.stages.preprocess",
    "sft": "engine.stages.sft",
    "grpo": "engine.stages.grpo",
    "eval": "engine.stages.eval",
}


def stage(name: str) -> Stage:
    """The function that runs stage `name`; KeyError for an unknown one."""
    run: Stage = import_module(MODULES[name]).run
    return run
