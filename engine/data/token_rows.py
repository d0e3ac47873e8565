"""Rows of token ids on disk: one flat int32 array and its offsets.

Readers map the arrays into memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class TokenRows:
    """The rows that `write_rows` wrote under `name`, memory-mapped."""

    def __init__(self, folder: Path, name: str) -> None:
        self._tokens = _mapped(folder / f"{name}.tokens.npy")
        self._offsets = np.load(folder / f"{name}.offsets.npy")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        """Return the token ids `(tokens,)` of a row.

        Raises: IndexError if there is not such a row.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self._tokens[self._offsets[row] : self._offsets[row + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        return (self[row] for row in range(len(self)))


def write_rows(folder: Path, name: str, rows: Sequence[Sequence[int]]) -> None:
    """Write rows of token ids as NAME.tokens.npy and NAME.offsets.npy.

    Their shapes are `(all tokens,)` and `(rows + 1,)`.
    """
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    flat = np.fromiter((token for row in rows for token in row), np.int32, int(offsets[-1]))
    np.save(folder / f"{name}.tokens.npy", flat)
    np.save(folder / f"{name}.offsets.npy", offsets)


def write_lines(path: Path, records: Iterable[Any]) -> None:
    """Write JSON-ready records, one per line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def read_lines(path: Path) -> list[Any]:
    """Return the records that `write_lines` wrote."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _mapped(path: Path) -> NDArray[np.int32]:
    # An empty file cannot be mapped.
    header = np.load(path, mmap_mode=None) if path.stat().st_size <= 128 else np.load(path, mmap_mode="r")
    return np.asarray(header, np.int32)
