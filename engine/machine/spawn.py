"""Start a function in a new process, with arguments that mypy checks.

`multiprocessing.Process` takes its arguments as `Iterable[Any]`, so a wrong one shows only in the child.
"""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from typing import TypeVarTuple

SPAWN = get_context("spawn")

Arguments = TypeVarTuple("Arguments")


def process_of(name: str, target: Callable[[*Arguments], None], *arguments: *Arguments) -> SpawnProcess:
    """Return a process, not yet started, that calls `target(*arguments)`."""
    return SPAWN.Process(target=target, args=arguments, name=name)
