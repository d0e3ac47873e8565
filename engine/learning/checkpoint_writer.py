"""Writes checkpoints beside training: the trainer is held for a copy to host memory, a thread waits for the disk.

One write at a time: the next save, and `close`, wait for the last and raise what went wrong with it. Under several
ranks every rank must call and the write is waited for at once, as the ranks' barriers belong to their main threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.learning import checkpoint
from engine.learning.ranks import barrier, by_rank_zero, rank, world
from engine.learning.tensor_image import TensorImage


class Model(Protocol):
    """A policy: its config into a folder, its weights by name (every rank must ask for these)."""

    def save_config(self, folder: Path) -> None: ...

    def named_weights(self) -> Any: ...


class Tokenizer(Protocol):
    """A tokenizer that can write itself into a folder."""

    def save_pretrained(self, folder: Path, /) -> Any: ...


class Optimizer(Protocol):
    """What has tensors to save, in dicts of dicts."""

    def state_dict(self) -> dict[str, Any]: ...


class CheckpointWriter:
    """Writes the checkpoints in `root`, of which the newest `keep` and the best stay.

    `visible(step, path)` is called, on the writing thread, once a checkpoint is there.
    """

    def __init__(
        self, root: Path, keep: int, visible: Callable[[int, Path], None] = lambda step, path: None
    ) -> None:
        self._root = root
        self._keep = keep
        self._visible = visible
        self._weights = TensorImage()
        self._state = TensorImage()
        self._scores: dict[int, float] = {}
        self._naming = (
            threading.Lock()
        )  # a score comes before its folder has its name, or after: never between
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(
        self,
        step: int,
        policy: Model,
        tokenizer: Tokenizer | None,
        optimizer: Optimizer,
        state: dict[str, Any],
    ) -> None:
        """Begins to write `root/step_NNNNNN`; what it holds is as it is now. A step that exists is left alone.

        `state` is whatever the stage needs to go on (picklable, arrays welcome); the RNG states are added.
        """
        self.wait()
        final = checkpoint.path_of(self._root, step)
        if final.exists():
            return
        draft = checkpoint.draft_of(final)
        if rank() == 0:
            checkpoint.begin(draft)
        barrier()
        self._take(draft, policy, tokenizer, optimizer, {"step": step, "state": state})
        if world() > 1:
            self._write(step, draft, final)
        else:
            self._thread = threading.Thread(
                target=self._run, args=(step, draft, final), name="checkpoint", daemon=False
            )
            self._thread.start()

    @by_rank_zero
    def scored(self, step: int, score: float) -> None:
        """Notes the validation score of a step, so that the best checkpoint is kept."""
        with self._naming:
            self._scores[step] = score
            checkpoint.set_score(self._root, step, score)

    def close(self) -> None:
        """Waits, raises like `wait`, and lets the host memory go."""
        try:
            self.wait()
        finally:
            self._state.close()
            self._weights.close()

    def wait(self) -> None:
        """Waits until what was saved is there; raises what kept it from being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _take(
        self,
        draft: Path,
        policy: Model,
        tokenizer: Tokenizer | None,
        optimizer: Optimizer,
        trainer: dict[str, Any],
    ) -> None:
        """Copies all that training changes, and writes what is small."""
        weights = dict(policy.named_weights())
        tensors: dict[str, Tensor] = {}
        trainer |= {
            "optimizer": without_tensors(optimizer.state_dict(), tensors),
            "rng": checkpoint.rng_state(),
        }
        torch.save(trainer, draft / checkpoint.trainer_file())
        self._state.take(tensors)
        if rank() == 0:
            self._weights.take(weights)
            policy.save_config(draft)
            if tokenizer is not None:
                tokenizer.save_pretrained(draft)

    def _run(self, step: int, draft: Path, final: Path) -> None:
        try:
            self._write(step, draft, final)
        except BaseException as error:  # noqa: BLE001 - it is raised again where somebody can act on it
            self._error = error

    def _write(self, step: int, draft: Path, final: Path) -> None:
        self._state.write(draft / checkpoint.tensor_file())
        checkpoint.sync(draft / checkpoint.tensor_file())
        if rank() == 0:
            self._weights.write(draft / checkpoint.WEIGHTS)
        barrier()
        if rank() == 0:
            with self._naming:
                checkpoint.finish(draft, final)
                if step in self._scores:
                    checkpoint.set_score(self._root, step, self._scores[step])
                checkpoint.prune(self._root, self._keep)
            self._visible(step, final)
        barrier()
        self._state.lock_pages()
        self._weights.lock_pages()


def without_tensors(state: Mapping[Any, Any], tensors: dict[str, Tensor], path: str = "") -> dict[Any, Any]:
    """`state` with each tensor in it, and in dicts in it, moved to `tensors` and its key there in its place."""
    skeleton: dict[Any, Any] = {}
    for key, value in state.items():
        name = f"{path}/{key}"
        if isinstance(value, Tensor):
            tensors[name] = value
            value = checkpoint.Stored(name)
        elif isinstance(value, Mapping):
            value = without_tensors(value, tensors, name)
        skeleton[key] = value
    return skeleton
