"""Stages: NAME is the function `run` in the module NAME here.

profiles/stages.py lists them. Each module is imported when its stage starts. So only the trainer process
imports torch, and not even for `data`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from engine.context import Context

StageFunction = Callable[[Context], None]


def stage(name: str) -> StageFunction:
    """Return the function that runs stage `name`.

    Raises: ModuleNotFoundError if the stage has no module here.
    """
    run: StageFunction = import_module(f"{__name__}.{name}").run
    return run
