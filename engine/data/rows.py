"""Questions with worked solutions, and the check that every line of a file is one.

A JSONL line is either GSM8K's form (`question`, `answer` ending in `#### N`) or MATH's (`problem`, `solution`, and
`answer` or a box in the solution); `id` or `unique_id` is optional. A file with any faulty line is refused as a whole,
with file, line number and reason for each, because a row that is left out in silence changes every number after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from engine.grading.extraction import boxes

SHOWN_FAULTS = 20
_HTML = re.compile(
    r"</?(?:html|head|body|div|span|br|script|style|table|tbody|tr|td|th|img|ul|ol|li|h[1-6]|strong|em|font|iframe"
    r"|form|input|button|pre|code|sup|sub)\b[^<>]*>|</[abipu]>|<[ap]\s+\w+=|<!doctype|<!--|&(?:nbsp|amp|lt|gt|quot|#\d+);",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffd]")


class InputError(ValueError):
    """Input that cannot be used; the message is one line with file, line number and what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One question. `solution` is whole and states the answer; `answer` is the gold answer alone."""

    ex_id: str
    question: str
    solution: str
    answer: str


class Fault(NamedTuple):
    """Why a line is no row."""

    place: str  # FILE:LINE
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


def read_jsonl_split(path: Path, max_characters: int = 20_000) -> list[Row]:
    """The rows of a JSONL file in order; InputError names its faulty lines, or says that it is missing or empty.

    `max_characters` bounds each field. Rows without an id get SPLIT-INDEX, SPLIT being the file's stem.
    """
    try:
        with path.open("rb") as file:
            return checked_rows(_records(file, path, max_characters), path.stem, max_characters, str(path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a data folder holds train.jsonl and test.jsonl") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def checked_rows(
    records: Iterable[tuple[str, Any]], split: str, max_characters: int, source: str
) -> list[Row]:
    """Rows from (place, record) pairs. InputError lists the faulty ones, or says that there is none at all.

    A record is what a JSON line holds, or a `Fault` where the line could not be read.
    """
    rows: list[Row] = []
    faults: list[Fault] = []
    seen: dict[str, str] = {}  # id or question → place
    for place, record in records:
        found = (
            record
            if isinstance(record, Fault)
            else _row(record, place, f"{split}-{len(rows):05d}", max_characters)
        )
        if isinstance(found, Row):
            found = _repeats(found, place, seen) or found
        if isinstance(found, Row):
            rows.append(found)
        else:
            faults.append(found)
    if faults:
        raise InputError(_summary(faults))
    if not rows:
        raise InputError(f"{source}: holds no rows; the {split} split needs at least one question")
    return rows


def write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    """Writes `rows` one a line; `read_rows` reads them back as they were."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def read_rows(path: Path) -> list[Row]:
    """Rows that `write_jsonl` wrote."""
    with path.open(encoding="utf-8") as file:
        return [Row(**json.loads(line)) for line in file]


def _records(file: BinaryIO, path: Path, max_characters: int) -> Iterator[tuple[str, Any]]:
    """(FILE:LINE, what the line holds or its Fault), with no more than one line's limit in memory."""
    limit = 16 * max_characters  # bytes: two fields, escapes and all
    number = 0
    while line := file.readline(limit + 1):
        number += 1
        place = f"{path}:{number}"
        if len(line) > limit and not line.endswith(b"\n"):
            size = len(line) + _skip_line(file)
            yield (
                place,
                Fault(place, f"a line of {size:,} bytes; fields may have {max_characters:,} characters"),
            )
        elif line.strip():
            yield place, _parsed(line, place)


def _skip_line(file: BinaryIO) -> int:
    """Reads to the end of the line; how many bytes that were."""
    size = 0
    while part := file.readline(1 << 20):
        size += len(part)
        if part.endswith(b"\n"):
            break
    return size


def _parsed(line: bytes, place: str) -> Any:
    if b"\x00" in line:
        return Fault(place, "holds a NUL byte; the file is damaged or no text")
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Fault(place, f"not UTF-8 (byte {error.start + 1} of the line)")
    except json.JSONDecodeError as error:
        text = line.lstrip()[:1]
        kind = "HTML, not JSON" if text == b"<" else f"not JSON ({error.msg.lower()}, column {error.colno})"
        return Fault(place, f"{kind}; each line is one object")
    except (RecursionError, ValueError):
        return Fault(
            place, "not JSON that can be read (nested too deeply, or a number of thousands of digits)"
        )


def _row(record: Any, place: str, default_id: str, max_characters: int) -> Row | Fault:
    if not isinstance(record, Mapping):
        return Fault(place, f"a JSON {type(record).__name__}, not an object with question and answer")
    names = ("problem", "solution") if "problem" in record else ("question", "answer")
    for name in names:
        reason = _fault_in_text(record.get(name), name, max_characters)
        if reason:
            return Fault(place, reason)
    question, solution = (record[name].strip() for name in names)
    answer = _gold(record, solution)
    if not answer:
        return Fault(
            place, "the solution ends in no boxed answer" if "problem" in record else "answer has no '#### N'"
        )
    named = (record.get(name) for name in ("id", "unique_id"))
    ex_id = next((found for found in named if found is not None), default_id)  # pandas writes null for none
    return Row(str(ex_id), question, solution, answer)


def _fault_in_text(value: Any, name: str, max_characters: int) -> str:
    if value is None:
        return f"no field {name!r}"
    if not isinstance(value, str):
        return f"{name} is a JSON {type(value).__name__}, not text"
    if not value.strip():
        return f"{name} is empty"
    if len(value) > max_characters:
        return (
            f"{name} has {len(value):,} characters; the most is data.max_row_characters = {max_characters:,}"
        )
    control = _CONTROL.search(value)
    if control:
        return f"{name} holds the control or broken character U+{ord(control.group()):04X}"
    tag = _HTML.search(value)
    return f"{name} holds HTML ({tag.group()[:30]})" if tag else ""


def _gold(record: Mapping[str, Any], solution: str) -> str:
    if "problem" not in record:
        return solution.rpartition("####")[2].strip() if "####" in solution else ""
    stated = record.get("answer")
    if isinstance(stated, str) and stated.strip():
        return stated.strip()
    found, _ = boxes(solution)
    return found[-1].content.strip() if found else ""


def _repeats(row: Row, place: str, seen: dict[str, str]) -> Fault | None:
    """The fault of a row whose id or question came before; notes both otherwise."""
    for kind, key in (("id", f"id:{row.ex_id}"), ("question", f"question:{row.question}")):
        if key in seen:
            what = f"{kind} {row.ex_id!r}" if kind == "id" else "question"
            return Fault(place, f"repeats the {what} of line {seen[key].rpartition(':')[2]}")
    seen[f"id:{row.ex_id}"] = seen[f"question:{row.question}"] = place
    return None


def _summary(faults: list[Fault]) -> str:
    shown = "; ".join(map(str, faults[:SHOWN_FAULTS]))
    more = f"; and {len(faults) - SHOWN_FAULTS} more faulty lines" if len(faults) > SHOWN_FAULTS else ""
    return f"{shown}{more} (mend or remove)"
