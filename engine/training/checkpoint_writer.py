"""Write checkpoints while training continues.

    trainer: copy part 1 ─▶ copy part 2 ─▶ … ─▶ next step
    thread:                 write part 1 ─▶ write part 2 ─▶ … ─▶ rename

Training stops only for the copy to host memory. One checkpoint is written at a time. The next save and
`close` wait for the previous one and raise its error. Older weights that the worker still uses are borrowed
from their publisher and written without a copy. The digest of a file is computed while it is written, from
the same memory.
With several ranks, every rank must call, and `save` waits for the write. The ranks' barriers belong to their
main threads.
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

from engine.artifacts.digests import Digest
from engine.machine.ranks import barrier, by_rank_zero, gather, rank, world
from engine.training import checkpoint
from engine.training.direct_io import write_durably
from engine.training.plain import Stored
from engine.training.tensor_image import TensorImage
from engine.weight_sync.weights import BorrowedSlot

# Bytes that are copied, and then written, at a time.
PART_BYTES = 2 << 30


class SavableModel(Protocol):
    """A policy that writes its config and returns its weights by name.

    Every rank must call `file_weights`.
    """

    def save_config(self, folder: Path) -> None:
        """Write config.json to `folder`, without the weights."""

    def file_weights(self) -> dict[str, Tensor]:
        """Return the weights by their names in model files."""


class SavableTokenizer(Protocol):
    """A tokenizer that can write itself into a folder."""

    def save_pretrained(self, folder: Path, /) -> Any:
        """Write the tokenizer's files to `folder`."""


class SavableOptimizer(Protocol):
    """An object with a state of nested dicts that hold tensors."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state: nested dicts that hold tensors and plain values."""


class CheckpointWriter:
    """Writes checkpoints into `root` and keeps the newest `keep` and the best.

    The writing thread calls `on_complete(step, path)` when a checkpoint is complete.
    """

    def __init__(
        self, root: Path, keep: int, on_complete: Callable[[int, Path], None] = lambda step, path: None
    ) -> None:
        self._root = root
        self._keep = keep
        self._on_complete = on_complete
        # Images by file name. Each checkpoint reuses the same host memory.
        self._images: dict[str, TensorImage] = {}
        self._scores: dict[int, float] = {}
        # A score must arrive before its folder is renamed or after it, never in between.
        self._naming = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: list[Future[None]] = []
        self._closing = False

    def save(
        self,
        step: int,
        policy: SavableModel,
        tokenizer: SavableTokenizer | None,
        optimizer: SavableOptimizer,
        state: dict[str, Any],
        borrowed: Sequence[BorrowedSlot] = (),
    ) -> None:
        """Begin to write `root/step_NNNNNN` with the values of this moment.

        A step that exists is not written again.
        Args:
            state: what the stage needs to resume (see engine/training/plain.py); the RNG states are added.
            borrowed: older weights; each is given back when it is written.
        Raises: OSError if the previous checkpoint cannot be written.
        """
        self.wait()
        final = checkpoint.path_of(self._root, step)
        if final.exists():
            return _give_back(borrowed)
        draft = checkpoint.draft_of(final)
        if rank() == 0:
            checkpoint.begin(draft)
        barrier()
        durable: dict[str, Digest] = {}
        self._take(draft, policy, tokenizer, optimizer, {"step": step, "state": state}, durable)
        self._write_borrowed(draft, borrowed, durable)
        if world() > 1:
            self.wait()
            return self._finish(step, draft, final, durable, [])
        return self._begin(self._finish, step, draft, final, durable, tuple(self._under_way))

    def prepare(self, policy: SavableModel, optimizer: SavableOptimizer, device: torch.device) -> None:
        """Begin to allocate host memory for copies from `device`.

        It returns at once. It does nothing if the trainer has several ranks.
        """
        if world() == 1:
            for name, part in self._parts(policy, optimizer)[0].items():
                self._begin(self._make_room, name, sum(tensor.nbytes for tensor in part.values()), device)

    @by_rank_zero
    def record_score(self, step: int, score: float) -> None:
        """Record the validation score of a step, to keep the best checkpoint."""
        with self._naming:
            self._scores[step] = score
            checkpoint.set_score(self._root, step, score)

    def stop_allocating(self) -> None:
        """Stop allocating memory: no checkpoint follows the current one."""
        self._closing = True

    def close(self) -> None:
        """Wait for the current checkpoint and free the host memory.

        Raises: OSError if the checkpoint cannot be written.
        """
        self.stop_allocating()
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            for image in self._images.values():
                image.close()

    def wait(self) -> None:
        """Wait until the saved checkpoint is complete.

        Raises: OSError if it cannot be written.
        """
        under_way, self._under_way = self._under_way, []
        for each in under_way:
            each.result()

    def _begin(self, write: Callable[..., None], *arguments: Any) -> None:
        """Queue `write` behind everything that was queued before."""
        self._under_way.append(self._thread.submit(write, *arguments))

    def _take(
        self,
        draft: Path,
        policy: SavableModel,
        tokenizer: SavableTokenizer | None,
        optimizer: SavableOptimizer,
        trainer: dict[str, Any],
        durable: dict[str, Digest],
    ) -> None:
        """Copy all that training changes, and begin to write it, by parts.

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
        self, policy: SavableModel, optimizer: SavableOptimizer
    ) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Return the tensors to save by file, and the state without them.

        The state is the optimizer's.
        """
        weights, tensors = policy.file_weights(), dict[str, Tensor]()
        skeleton = without_tensors(optimizer.state_dict(), tensors)
        parts = {checkpoint.tensor_file(place): part for place, part in enumerate(in_parts(tensors))}
        return parts | ({checkpoint.WEIGHTS: weights} if rank() == 0 else {}), skeleton

    def _make_room(self, name: str, size: int, device: torch.device) -> None:
        if not self._closing:
            self._images.setdefault(name, TensorImage()).prepare(size, device)

    def _write_borrowed(
        self, draft: Path, borrowed: Sequence[BorrowedSlot], durable: dict[str, Digest]
    ) -> None:
        if rank() > 0:
            return _give_back(borrowed)
        for each in borrowed:
            path = draft / checkpoint.extra_weights_file(each.weights.version)
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
        """Rename the checkpoint when all of it is `written`.

        Free the space if a write fails.
        """
        with _removed_if_it_fails(draft):
            for each in written:
                each.result()
        everything = gather(durable)
        if rank() == 0:
            with self._naming:
                with _removed_if_it_fails(draft):
                    checkpoint.finish(draft, final, everything)
                if step in self._scores:
                    checkpoint.set_score(self._root, step, self._scores[step])
                checkpoint.prune(self._root, self._keep)
            self._on_complete(step, final)
        barrier()
        # Locking takes seconds, and only helps copies that are still to come.
        if not self._closing:
            for image in self._images.values():
                image.lock_pages()


def in_parts(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Split `tensors` in order into parts of at most PART_BYTES.

    A larger tensor is a part of its own.
    """
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


def _give_back(borrowed: Sequence[BorrowedSlot]) -> None:
    for each in borrowed:
        each.give_back()


def without_tensors(state: Mapping[Any, Any], tensors: dict[str, Tensor], path: str = "") -> dict[Any, Any]:
    """Return `state` with each tensor replaced by a `Stored` key.

    Dicts may be nested.
    The tensors are added to `tensors` under these keys.
    """
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
