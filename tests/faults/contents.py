"""Damaged bytes: flipped bits, cuts, zeros and repeated tails in every kind of file that a run keeps."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.faults.faultkind import Fault
from tests.faults.not_possible import NotPossible
from tests.faults.subject import Subject


def _flip(content: bytearray, rng: random.Random) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _flip_many(content: bytearray, rng: random.Random) -> None:
    for _ in range(20):
        _flip(content, rng)


def _cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def _cut_little(content: bytearray, rng: random.Random) -> None:
    del content[-rng.randint(1, min(200, len(content))) :]


def _zero_block(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content)) // 512 * 512
    block = content[start : start + rng.choice((512, 4096))]
    content[start : start + len(block)] = bytes(len(block))


def _zero_tail(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    content[start:] = bytes(len(content) - start)


def _repeat_tail(content: bytearray, rng: random.Random) -> None:
    content += content[-rng.randint(1, len(content)) :]


def _empty(content: bytearray, rng: random.Random) -> None:
    content.clear()


def _garbage(content: bytearray, rng: random.Random) -> None:
    content += rng.randbytes(rng.randint(1, 3000))


_DAMAGES: dict[str, Callable[[bytearray, random.Random], None]] = {
    "one bit": _flip,
    "20 bits": _flip_many,
    "cut": _cut,
    "cut at the end": _cut_little,
    "zero block": _zero_block,
    "zero tail": _zero_tail,
    "repeated tail": _repeat_tail,
    "emptied": _empty,
    "garbage behind": _garbage,
}


def _checkpoint_files(subject: Subject) -> list[Path]:
    """Return the files of the newest checkpoint."""
    folders = list((subject.run_path / "checkpoints").glob("*/step_*"))
    newest = max(folders, key=lambda folder: folder.stat().st_mtime, default=None)
    return [] if newest is None else _files(newest)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


_TARGETS: dict[str, Callable[[Subject], list[Path]]] = {
    "journal": lambda subject: sorted(subject.journal_path.glob("*.j")),
    "store": lambda subject: [subject.store],
    "store's log": lambda subject: [Path(f"{subject.store}.wal")],
    "newest checkpoint": _checkpoint_files,
    "any checkpoint": lambda subject: _files(subject.run_path / "checkpoints"),
    "run.json": lambda subject: [subject.run_path / "run.json"],
    "cached output": lambda subject: _files(subject.home / "cache"),
    "spool": lambda subject: _files(subject.run_path / "unacknowledged"),
    "marker": lambda subject: _files(subject.run_path / "finished"),
    "lock file": lambda subject: [*subject.run_path.glob("*.pid"), *subject.run_path.glob("*.lock")],
    "rollouts": lambda subject: _files(subject.run_path / "rollouts"),
}
_WEIGHTS = {"journal": 4.0, "store": 3.0, "newest checkpoint": 4.0, "run.json": 0.5}
_LIVE = ("store", "any checkpoint", "cached output")


@contextmanager
def _damage(subject: Subject, rng: random.Random, *, target: str) -> Iterator[str]:
    candidates = [path for path in _TARGETS[target](subject) if path.is_file() and path.stat().st_size]
    if not candidates:
        raise NotPossible(f"{target}: nothing is there yet")
    path = rng.choice(candidates)
    name = rng.choice(list(_DAMAGES))
    before = path.read_bytes()
    content = bytearray(before)
    _DAMAGES[name](content, rng)
    # In place: a live process keeps its descriptor, as it does when a disk loses a block.
    with path.open("r+b") as file:
        file.write(content)
        file.truncate(len(content))
    if target == "journal":
        subject.journal.follow_from_end(subject.journal_path)
    subject.damaged.append(target)
    yield f"{name} in {path.relative_to(subject.home)}, {len(before)} → {len(content)} bytes"


FAULTS = (
    *(
        Fault(
            "contents",
            f"damaged at rest: {target}",
            partial(_damage, target=target),
            at_rest=True,
            weight=_WEIGHTS.get(target, 1.0),
        )
        for target in _TARGETS
    ),
    *(
        Fault("contents", f"damaged live: {target}", partial(_damage, target=target), weight=0.5)
        for target in _LIVE
    ),
)
