"""Writes checkpoints beside training: the trainer is held for a copy to host memory, a thread waits for the disk.

The copy is made in parts, and each is written while the next is copied. One checkpoint at a time: the next save, and
`close`, wait for the last and raise what went wrong with it. Older weights that the worker still works with are lent by
their publisher and written from where they lie. The digest of
a file is computed while it is written, from the same memory. Under several ranks every rank must call and the writing
is waited for at once, as the ranks' barriers belong to their main threads.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.digests import Digest
from engine.handover.weights import Lent
from engine.learning import checkpoint
from engine.learning.direct_io import write_durably
from engine.learning.plain import Stored
from engine.learning.tensor_image import TensorImage
from engine.ranks import barrier, by_rank_zero, rank, united, world

PART_BYTES = 2 << 30  # of what is copied, and then written, at a time


class Model(Protocol):
    """A policy: its config into a folder, its weights by name (every rank must ask for these)."""

    def save_config(self, folder: Path) -> None: ...

    def file_weights(self) -> dict[str, Tensor]: ...


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
        self._images: dict[str, TensorImage] = {}  # by file: the same host memory again for each checkpoint
        self._scores: dict[int, float] = {}
        self._naming = (
            threading.Lock()
        )  # a score comes before its folder has its name, or after: never between
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: list[Future[None]] = []
        self._closing = False

    def save(
        self,
        step: int,
        policy: Model,
        tokenizer: Tokenizer | None,
        optimizer: Optimizer,
        state: dict[str, Any],
        lent: Sequence[Lent] = (),
    ) -> None:
        """Begins to write `root/step_NNNNNN`; what it holds is as it is now. A step that exists is left alone.

        `state` is whatever the stage needs to resume (see engine/learning/plain.py); the RNG states are added. `lent`
        weights are given back when they are written.
        """
        self.wait()
        final = checkpoint.path_of(self._root, step)
        if final.exists():
            return _give_back(lent)
        draft = checkpoint.draft_of(final)
        if rank() == 0:
            checkpoint.begin(draft)
        barrier()
        durable: dict[str, Digest] = {}
        self._take(draft, policy, tokenizer, optimizer, {"step": step, "state": state}, durable)
        self._write_lent(draft, lent, durable)
        if world() > 1:
            self.wait()
            return self._finish(step, draft, final, durable, [])
        return self._begin(self._finish, step, draft, final, durable, tuple(self._under_way))

    def prepare(self, policy: Model, optimizer: Optimizer, device: torch.device) -> None:
        """Begins to make room for the copies from `device`, so that the first save need not; waits for nothing."""
        if world() == 1:
            for name, part in self._parts(policy, optimizer)[0].items():
                self._begin(self._make_room, name, sum(tensor.nbytes for tensor in part.values()), device)

    @by_rank_zero
    def scored(self, step: int, score: float) -> None:
        """Notes the validation score of a step, so that the best checkpoint is kept."""
        with self._naming:
            self._scores[step] = score
            checkpoint.set_score(self._root, step, score)

    def last(self) -> None:
        """No checkpoint comes after the one under way: memory is made ready for none."""
        self._closing = True

    def close(self) -> None:
        """Waits, raises like `wait`, and lets the host memory go."""
        self.last()
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            for image in self._images.values():
                image.close()

    def wait(self) -> None:
        """Waits until what was saved is there; raises what kept it from being written."""
        under_way, self._under_way = self._under_way, []
        for each in under_way:
            each.result()

    def _begin(self, write: Callable[..., None], *arguments: Any) -> None:
        """Has `write` done after all that was begun before."""
        self._under_way.append(self._thread.submit(write, *arguments))

    def _take(
        self,
        draft: Path,
        policy: Model,
        tokenizer: Tokenizer | None,
        optimizer: Optimizer,
        trainer: dict[str, Any],
        durable: dict[str, Digest],
    ) -> None:
        """Copy all that training changes, part by part, and begin to write each.

        A file that is on the disk is added to `durable`, by name, with its digest.
        """
        parts, skeleton = self._parts(policy, optimizer)
        trainer |= {"optimizer": skeleton, "rng": checkpoint.rng_state()}
        checkpoint.write_trainer(draft, trainer)
        if rank() == 0:
            policy.save_config(draft)
            if tokenizer is not None:
                tokenizer.save_pretrained(draft)
        for name, part in parts.items():
            image = self._images.setdefault(name, TensorImage())
            image.take(part)
            self._begin(_write, durable, draft / name, image.write)

    def _parts(
        self, policy: Model, optimizer: Optimizer
    ) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """The tensors to save by file, and the optimizer's state without them."""
        weights, tensors = policy.file_weights(), dict[str, Tensor]()
        skeleton = without_tensors(optimizer.state_dict(), tensors)
        parts = {checkpoint.tensor_file(place): part for place, part in enumerate(in_parts(tensors))}
        return parts | ({checkpoint.WEIGHTS: weights} if rank() == 0 else {}), skeleton

    def _make_room(self, name: str, size: int, device: torch.device) -> None:
        if not self._closing:
            self._images.setdefault(name, TensorImage()).prepare(size, device)

    def _write_lent(self, draft: Path, lent: Sequence[Lent], durable: dict[str, Digest]) -> None:
        if rank() > 0:
            return _give_back(lent)
        for each in lent:
            path = draft / checkpoint.carried_file(each.weights.version)
            self._begin(_write, durable, path, partial(write_durably, parts=[each.memory]))
            self._begin(each.give_back)
        return None

    def _finish(
        self,
        step: int,
        draft: Path,
        final: Path,
        durable: Mapping[str, Digest],
        written: Sequence[Future[None]],
    ) -> None:
        """Give the checkpoint its name, once all of it is `written`. A disk that is full gets its room back."""
        with _removed_if_it_fails(draft):
            for each in written:
                each.result()
        everything = united(durable)
        if rank() == 0:
            with self._naming:
                with _removed_if_it_fails(draft):
                    checkpoint.finish(draft, final, everything)
                if step in self._scores:
                    checkpoint.set_score(self._root, step, self._scores[step])
                checkpoint.prune(self._root, self._keep)
            self._visible(step, final)
        barrier()
        if not self._closing:  # locking takes seconds, and is for the copies to come
            for image in self._images.values():
                image.lock_pages()


def in_parts(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """`tensors` in their order, in parts of PART_BYTES at most or of one tensor."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if parts[-1] and size + tensor.nbytes > PART_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = tensor
        size += tensor.nbytes
    return parts


def _write(durable: dict[str, Digest], path: Path, write: Callable[[Path], Digest]) -> None:
    durable[path.name] = write(path)


@contextmanager
def _removed_if_it_fails(draft: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _give_back(lent: Sequence[Lent]) -> None:
    for each in lent:
        each.give_back()


def without_tensors(state: Mapping[Any, Any], tensors: dict[str, Tensor], path: str = "") -> dict[Any, Any]:
    """`state` with each tensor in it, and in dicts in it, moved to `tensors` and its key there in its place."""
    skeleton: dict[Any, Any] = {}
    for key, value in state.items():
        name = f"{path}/{key}"
        if isinstance(value, Tensor):
            tensors[name] = value
            value = Stored(name)
        elif isinstance(value, Mapping):
            value = without_tensors(value, tensors, name)
        skeleton[key] = value
    return skeleton
