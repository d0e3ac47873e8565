"""One line of a journal: a batch of records behind its checksum.

The crc32 of the JSON in eight hexadecimal digits, a space, the JSON, a newline. The JSON is the version and the
groups of `to_groups`; a column of floats is the base64 of little-endian doubles, which takes a fifth of the time that
digits do.
"""

from __future__ import annotations

import json
import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from profiles.errors import OperationFailed
from store.records import KINDS_OF_RECORDS, VERSION, Record, completed, to_groups

CRC_BYTES = 9  # eight digits and a space

Group = list[Any]  # a kind, then a list of values for each field

_INT64 = 2**63
# Name and type of each field of a kind. A column of version 1 is as it is, one of an earlier version may be missing.
_FIELDS = {
    kind: [(field.name, str(field.type)) for field in fields(record)]
    for kind, record in KINDS_OF_RECORDS.items()
}
# What a field of each type may hold. Text is lenient: a number becomes its digits.
_TYPES: dict[str, set[type]] = {
    "str": {str, int, float, bool, type(None)},
    "int": {int, bool},
    "float": {float, int, bool, type(None)},
    "bool": {bool, int},
    "dict[str, Any]": {dict},
}


class JournalVersion(OperationFailed, RuntimeError):
    """The journal was written by a newer version of this program."""


def encode(records: Sequence[Record]) -> bytes:
    """Return `records` as one line. Half surrogate pairs, which no table can hold, become `?`."""
    batch = [VERSION, [[kind, *map(_packed, columns)] for kind, *columns in to_groups(records)]]
    body = json.dumps(batch, ensure_ascii=False, separators=(",", ":"), default=_plain).encode(
        "utf-8", "replace"
    )
    return b"%08x %b\n" % (zlib.crc32(body), body)


def is_whole(line: bytes) -> bool:
    """Return True if `line`, without its newline, has the checksum that it begins with."""
    return line[:CRC_BYTES] == b"%08x " % zlib.crc32(line[CRC_BYTES:])


def decode(line: bytes) -> list[Group] | None:
    """Return the groups of a line without its newline; None if it is damaged or foreign.

    Raises: JournalVersion for a batch that a newer program wrote.
    """
    if not is_whole(line):
        return None
    try:
        version, batch = json.loads(line[CRC_BYTES:])
        if version > VERSION:
            raise JournalVersion(f"journal version {version} is newer than {VERSION}; update mathrl-tui")
        return [_group(kind, columns) for kind, *columns in batch]
    # A checksum that fits foreign JSON: other shapes, other kinds, text that is no base64, endless nesting.
    except (ValueError, TypeError, KeyError, struct.error, RecursionError):
        return None


def _group(kind: str, journaled: list[list[Any] | str]) -> Group:
    """Return the group of journaled columns. Raises ValueError, TypeError or KeyError if they do not fit the kind."""
    columns = [_fitted(column, *field) for column, field in zip(journaled, _FIELDS[kind], strict=False)]
    if len(columns) != len(journaled) or len(set(map(len, columns))) != 1:
        raise ValueError(f"a {kind} without a value for every field")
    return completed([kind, *columns])


def _fitted(column: list[Any] | str, name: str, type_name: str) -> list[Any]:
    """Return a column, unpacked if it is packed, with values that fit the field."""
    if isinstance(column, str):
        if type_name not in ("float", "int"):
            raise TypeError(f"floats as {name}")
        return _unpacked(column)
    found = set(map(type, column))
    if type(column) is not list or not found <= _TYPES[type_name]:
        raise TypeError(f"a foreign {name}")
    if type_name == "str" and found != {str}:
        return ["" if value is None else str(value) for value in column]
    if type_name == "int" and column and not -_INT64 <= min(column) <= max(column) < _INT64:
        raise ValueError(f"a {name} of more than 64 bits")
    return column


def _packed(column: list[Any]) -> list[Any] | str:
    """A column of floats as text, bit for bit; any other as it is."""
    if set(map(type, column)) != {float}:
        return column
    return b64encode(struct.pack(f"<{len(column)}d", *column)).decode()


def _unpacked(column: str) -> list[float]:
    """The column that `_packed` packed."""
    content = b64decode(column)
    return list(struct.unpack(f"<{len(content) // 8}d", content))


def _plain(value: Any) -> Any:
    """A NumPy or torch scalar as the Python number that it holds."""
    if not hasattr(value, "item"):
        raise TypeError(
            f"a record holds {value!r}, which no journal can: give numbers, text, lists and mappings"
        )
    return value.item()
