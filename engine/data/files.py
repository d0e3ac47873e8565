"""Read files of rows: JSON lines, JSON arrays, CSV, TSV, Parquet, Arrow.

Each record has its place, FILE:NUMBER (a line in text files, a row in the others). A record that cannot be
read becomes a `RowFault`, so that one bad line is reported and the others are still checked.
This module imports neither torch nor datasets.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from profiles.errors import UserError

FORMS = "JSON lines (.jsonl), a JSON array (.json), CSV, TSV, Parquet or Arrow"

_SEPARATORS = (",", "\t", ";")

Records = Iterator[tuple[str, Any]]


class DataError(UserError, ValueError):
    """Unusable input; the message gives file, line number and what to do."""


class RowFault(NamedTuple):
    """The reason why a line is not a row; `place` is FILE:LINE."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


def records(path: Path, max_characters: int) -> Records:
    """Yield (place, record or RowFault) of a file.

    Raises: DataError if it is missing or does not have its form.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise DataError(f"{path}: not a file of rows; give {FORMS}")
    try:
        yield from read(path, max_characters)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; a data folder holds train.jsonl and test.jsonl") from None
    except (IsADirectoryError, PermissionError) as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; give a readable file") from None


def _json_lines(path: Path, max_characters: int) -> Records:
    """Yield records with at most one line's limit in memory."""
    # Bytes: two fields, including escapes.
    limit = 16 * max_characters
    number = 0
    with path.open("rb") as file:
        while line := file.readline(limit + 1):
            number += 1
            place = f"{path}:{number}"
            if len(line) > limit and not line.endswith(b"\n"):
                size = len(line) + _skip_line(file)
                reason = f"a line of {size:,} bytes; fields may have {max_characters:,} characters"
                yield place, RowFault(place, reason)
            elif line.strip():
                yield place, _parsed(line, place)


def _skip_line(file: BinaryIO) -> int:
    """Read to the end of the line; return the number of bytes."""
    size = 0
    while part := file.readline(1 << 20):
        size += len(part)
        if part.endswith(b"\n"):
            break
    return size


def _parsed(line: bytes, place: str) -> Any:
    if b"\x00" in line:
        return RowFault(place, "holds a NUL byte; the file is damaged or not text")
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return RowFault(place, f"not UTF-8 (byte {error.start + 1} of the line)")
    except json.JSONDecodeError as error:
        text = line.lstrip()[:1]
        kind = "HTML, not JSON" if text == b"<" else f"not JSON ({error.msg.lower()}, column {error.colno})"
        return RowFault(place, f"{kind}; each line is one object")
    except (RecursionError, ValueError):
        return RowFault(
            place, "not JSON that can be read (nested too deeply, or a number of thousands of digits)"
        )


def _json(path: Path, max_characters: int) -> Records:
    """Read an array of objects, an object with one such list, or JSON lines."""
    try:
        whole = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        yield from _json_lines(path, max_characters)
        return
    values = whole.values() if isinstance(whole, dict) else ()
    lists = [
        value
        for value in values
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
    ]
    rows = lists[0] if len(lists) == 1 else whole
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], start=1):
        yield f"{path}:{number}", row


def _csv(path: Path, max_characters: int) -> Records:
    """Read CSV with the most frequent separator of the header.

    Spreadsheets also write semicolons, tabs and UTF-16.
    """
    csv.field_size_limit(max(csv.field_size_limit(), 16 * max_characters))
    with path.open("rb") as raw:
        wide = raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    with path.open(encoding="utf-16" if wide else "utf-8-sig", errors="replace", newline="") as file:
        delimiter = max(_SEPARATORS, key=file.readline().count)
        file.seek(0)
        reader = csv.DictReader(file, restkey="", delimiter=delimiter, strict=True)
        try:
            for row in reader:
                place = f"{path}:{reader.line_num}"
                extra = row.pop("", None)
                missing = any(value is None for value in row.values())
                uneven = f"has {'fewer' if missing else 'more'} fields than the header"
                yield place, RowFault(place, uneven) if missing or isinstance(extra, list) else row
        except csv.Error as error:
            place = f"{path}:{reader.reader.line_num}"
            yield place, RowFault(place, f"not CSV that can be read ({error})")


def _parquet(path: Path, max_characters: int) -> Records:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield from _rows(path, file.iter_batches())
    except pyarrow.ArrowException as error:
        raise _unreadable(path, "Parquet", error) from None


def _arrow(path: Path, max_characters: int) -> Records:
    """Read Arrow as `save_to_disk` writes it, or Arrow's file format."""
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as source:
            try:
                yield from _rows(path, pyarrow.ipc.open_stream(source))
            except pyarrow.ArrowInvalid:
                source.seek(0)
                file = pyarrow.ipc.open_file(source)
                yield from _rows(path, map(file.get_batch, range(file.num_record_batches)))
    except (pyarrow.ArrowException, OSError) as error:
        # Arrow raises a bare OSError for some faults of form. An OSError with a number comes from the system.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _unreadable(path, "Arrow", error) from None


def _rows(path: Path, batches: Iterator[Any]) -> Records:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield f"{path}:{number}", row


def _unreadable(path: Path, form: str, error: Exception) -> DataError:
    return DataError(f"{path}: not {form} that can be read: {str(error).partition(chr(10))[0]}")


READERS: dict[str, Callable[[Path, int], Records]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
}
