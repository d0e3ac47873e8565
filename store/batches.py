"""Journal lines: one batch of records with its checksum.

A line is the crc32 of the JSON in eight hexadecimal digits, a space, the JSON, and a newline. The JSON holds
the version, the groups of `to_groups`, and the place of the line: its segment and offset in bytes. The place
shows which of two equal lines is a copy; journals of earlier versions lack it.

A column of floats is the base64 of little-endian doubles: decoding it takes a fifth of the time that decimal
digits take.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from profiles.errors import OperationFailed
from store.records import KINDS_OF_RECORDS, VERSION, Record, completed, to_groups

# Eight hexadecimal digits and a space.
CRC_BYTES = 9

# The end of a line without newline. The groups, which stand before it, end with a bracket. Without a place the
# line ends with at least three brackets.
_PLACE = re.compile(rb"\],\[(\d{1,18}),(\d{1,18})\]\]$")
_PLACE_BYTES = 48

# A kind, then a list of values for each field.
Group = list[Any]

_INT64 = 2**63
# Name and type of each field of a kind. The columns of version 1 never change; later columns may be missing.
_FIELDS = {
    kind: [(field.name, str(field.type)) for field in fields(record)]
    for kind, record in KINDS_OF_RECORDS.items()
}
# Types that a field accepts. Text is lenient: a number is converted to its digits.
_TYPES: dict[str, set[type]] = {
    "str": {str, int, float, bool, type(None)},
    "int": {int, bool},
    "float": {float, int, bool, type(None)},
    "bool": {bool, int},
    "dict[str, Any]": {dict},
}


class JournalVersion(OperationFailed, RuntimeError):
    """The journal was written by a newer version of mathrl-tui."""


def encode(records: Sequence[Record], segment: int, offset: int) -> bytes:
    """Return `records` as one line for the place `segment`, `offset`.

    Unpaired surrogates become `?`, because no table can store them.
    """
    groups = [[kind, *map(_packed, columns)] for kind, *columns in to_groups(records)]
    batch = [VERSION, groups, [segment, offset]]
    body = json.dumps(batch, ensure_ascii=False, separators=(",", ":"), default=_plain).encode(
        "utf-8", "replace"
    )
    return b"%08x %b\n" % (zlib.crc32(body), body)


def is_whole(line: bytes) -> bool:
    """Return True if the checksum of a line without newline matches."""
    return line[:CRC_BYTES] == b"%08x " % zlib.crc32(line[CRC_BYTES:])


def place_of(line: bytes) -> tuple[int, int] | None:
    """Return the segment and offset for which a line was written.

    Returns: None for a line without a place, of an earlier version.
    """
    found = _PLACE.search(line, max(0, len(line) - _PLACE_BYTES))
    return (int(found[1]), int(found[2])) if found else None


def decode(line: bytes) -> list[Group] | None:
    """Return the groups of a line without its newline.

    Returns: None if the line is damaged or foreign.
    Raises: JournalVersion if a newer version wrote the batch.
    """
    if not is_whole(line):
        return None
    try:
        version, batch, *_ = json.loads(line[CRC_BYTES:])
        if version > VERSION:
            raise JournalVersion(f"journal version {version} is newer than {VERSION}; update mathrl-tui")
        return [_group(kind, columns) for kind, *columns in batch]
    # The checksum fits, but the JSON is foreign: another shape or kind, invalid base64, or too deeply nested
    # lists.
    except (ValueError, TypeError, KeyError, struct.error, RecursionError):
        return None


def _group(kind: str, journaled: list[list[Any] | str]) -> Group:
    """Return the group of journaled columns.

    Raises: ValueError, TypeError or KeyError if the columns do not fit the kind.
    """
    columns = [_fitted(column, *field) for column, field in zip(journaled, _FIELDS[kind], strict=False)]
    if len(columns) != len(journaled) or len(set(map(len, columns))) != 1:
        raise ValueError(f"a {kind} without a value for every field")
    return completed([kind, *columns])


def _fitted(column: list[Any] | str, name: str, type_name: str) -> list[Any]:
    """Return a column, unpacked if needed, with values that fit the field.

    Raises: ValueError if a value does not fit.
    """
    if isinstance(column, str):
        if type_name not in ("float", "int"):
            raise TypeError(f"floats as {name}")
        return _unpacked(column)
    found = set(map(type, column))
    if type(column) is not list or not found <= _TYPES[type_name]:
        raise TypeError(f"a {name} of another type")
    if type_name == "str" and found != {str}:
        return ["" if value is None else str(value) for value in column]
    if type_name == "int" and column and not -_INT64 <= min(column) <= max(column) < _INT64:
        raise ValueError(f"a {name} of more than 64 bits")
    return column


def _packed(column: list[Any]) -> list[Any] | str:
    """Return a column of floats as base64 text, bit for bit; others unchanged."""
    if set(map(type, column)) != {float}:
        return column
    return b64encode(struct.pack(f"<{len(column)}d", *column)).decode()


def _unpacked(column: str) -> list[float]:
    """Return the column that `_packed` encoded."""
    content = b64decode(column)
    return list(struct.unpack(f"<{len(content) // 8}d", content))


def _plain(value: Any) -> Any:
    """Convert a NumPy or torch scalar to the Python number that it holds."""
    if not hasattr(value, "item"):
        raise TypeError(
            f"a record has the value {value!r}, which JSON cannot hold; use numbers, text, lists, mappings"
        )
    return value.item()
