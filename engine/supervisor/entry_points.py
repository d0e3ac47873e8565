"""The main functions of the trainer and the worker.

The supervisor starts them by name and imports neither. Otherwise it would load NumPy and the grader, and an
error in one of these modules would stop the supervisor too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.ipc.child import TrainerMain, WorkerMain

if TYPE_CHECKING:
    import engine.trainer
    import engine.worker


@dataclass(frozen=True, slots=True)
class EntryPoints:
    """The name of each main function, as "module:function"."""

    trainer: str = "engine.trainer:main"
    worker: str = "engine.worker:main"


if TYPE_CHECKING:
    # mypy checks here that each function accepts what its process passes to it.
    _trainer_main: TrainerMain = engine.trainer.main
    _worker_main: WorkerMain = engine.worker.main
