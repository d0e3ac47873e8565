"""Questions with gold answers and worked solutions, and checks of records.

A record has a question and an answer, a worked solution, or both (names: engine/data/columns.py). Accepted
forms are GSM8K's (`question`, `answer` ending in `#### N`), MATH's (`problem`, `solution`, and `answer` or a
box in the solution), or a bare answer (`question`, `answer` 5 or "3/4"). A bare answer is enough for GRPO and
evaluation. `id` or `unique_id` is optional.
A file with a faulty record is rejected as a whole, with place and reason for each: a row that is silently
omitted changes every number after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.data.columns import (
    ANSWER,
    QUESTION,
    SOLUTION,
    ColumnNames,
    as_text,
    columns_of,
    solution_and_gold,
)
from engine.data.files import DataError, RowFault, records
from engine.grading import MAX_ANSWER, grade

__all__ = ["DataError", "DataRow", "checked_rows", "read_rows", "read_split", "write_jsonl"]

SHOWN_FAULTS = 20
_HTML = re.compile(
    r"</?(?:html|head|body|div|span|br|script|style|table|tbody|tr|td|th|img|ul|ol|li|h[1-6]|strong|em|font|iframe"
    r"|form|input|button|pre|code|sup|sub)\b[^<>]*>|</[abipu]>|<[ap]\s+\w+=|<!doctype|<!--|&(?:nbsp|amp|lt|gt|quot|#\d+);",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffd]")


@dataclass(frozen=True, slots=True)
class DataRow:
    """One question.

    Attributes:
        solution: the worked solution as the source has it, "" for none.
        answer: the gold answer.
    """

    ex_id: str
    question: str
    solution: str
    answer: str


def read_split(paths: Sequence[Path], split: str, max_characters: int = 20_000) -> list[DataRow]:
    """Return the rows of a split's files, in order.

    Args:
        max_characters: bound of each field.
    Raises: DataError that names each faulty record, or a missing or empty file.
    """
    found = (record for path in paths for record in records(path, max_characters))
    return checked_rows(found, split, max_characters, ", ".join(map(str, paths)))


def checked_rows(
    found: Iterable[tuple[str, Any]], split: str, max_characters: int, source: str
) -> list[DataRow]:
    """Check (place, record or RowFault) pairs, and return them as rows.

    A row without an id gets SPLIT-INDEX. A repeated id or question is a fault.
    Raises: DataError that lists the faulty records, or if there are not any rows.
    """
    rows: list[DataRow] = []
    faults: list[RowFault] = []
    # Id or question → place.
    seen: dict[str, str] = {}
    for place, record in found:
        row = (
            record
            if isinstance(record, RowFault)
            else _row(record, place, f"{split}-{len(rows):05d}", max_characters)
        )
        if isinstance(row, DataRow):
            row = _repeats(row, place, seen) or row
        if isinstance(row, DataRow):
            rows.append(row)
        else:
            faults.append(row)
    if faults:
        raise DataError(_summary(faults))
    if not rows:
        raise DataError(f"{source}: holds no rows; the {split} split needs at least one question")
    return rows


def write_jsonl(path: Path, rows: Iterable[DataRow]) -> None:
    """Write `rows`, one per line; `read_rows` reads them back unchanged."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def read_rows(path: Path) -> list[DataRow]:
    """Return the rows that `write_jsonl` wrote."""
    with path.open(encoding="utf-8") as file:
        return [DataRow(**json.loads(line)) for line in file]


def _row(record: Any, place: str, default_id: str, max_characters: int) -> DataRow | RowFault:
    if not isinstance(record, Mapping):
        return RowFault(place, f"a JSON {type(record).__name__}, not an object with question and answer")
    names = columns_of(record)
    reason = next(_faults(record, names, max_characters), "")
    if reason:
        return RowFault(place, reason)
    context, question, solution, answer = (as_text(record[name]) or "" if name else "" for name in names)
    question = f"{context}\n\n{question}" if context else question
    solution, gold = solution_and_gold(solution, answer)
    if not gold and answer:
        reason = f"{names.answer} has no '#### N' or box at its end and is not a bare answer (one short line)"
        return RowFault(place, reason)
    if not gold:
        return RowFault(
            place, f"the {names.solution} ends in no boxed answer or '#### N', and no column states it"
        )
    reason = _fault_in_gold(gold)
    if reason:
        return RowFault(place, reason)
    named = (record.get(name) for name in ("id", "unique_id"))
    # Tables hold null, NaN or an empty text for a row without an id.
    ex_id = next((text for found in named if (text := as_text(found))), default_id)
    return DataRow(ex_id, question, solution, gold)


def _fault_in_gold(gold: str) -> str:
    """Return why a completion that gives `gold` would be wrong, or ""."""
    try:
        verdict = grade(f"\\boxed{{{gold}}}", gold)
    except ValueError as error:
        return str(error)
    if verdict.correct and verdict.answer:
        return ""
    return (
        f"the answer {gold[:40]!r} cannot be graded: it would be graded as wrong if a model gave it; an answer has "
        f"at most {MAX_ANSWER} characters and closes its braces"
    )


def _faults(record: Mapping[str, Any], names: ColumnNames, max_characters: int) -> Iterator[str]:
    """Yield what is wrong with the columns of a record."""
    for group, name in ((QUESTION, names.question), (ANSWER, names.answer or names.solution)):
        if not name:
            yield _missing(record, group)
    for name in filter(None, names):
        fault = _fault_in_value(record[name], name, max_characters)
        if fault:
            yield fault


def _missing(record: Mapping[str, Any], group: Sequence[str]) -> str:
    """Return why a record has no question, or no answer and no solution."""
    usual = group[1] if group is QUESTION else group[0]
    blank = next((str(name) for name in record if str(name).casefold() in group), "")
    if blank:
        return f"{blank} is empty"
    others = ", ".join((*group, *(SOLUTION if group is ANSWER else ())))
    return f"no field {usual!r} (nor any other of {others}); it has {', '.join(map(str, record)) or 'none'}"


def _fault_in_value(value: Any, name: str, max_characters: int) -> str:
    text = as_text(value)
    if text is None:
        return f"{name} is a JSON {type(value).__name__} ({str(value)[:20]}), not text or a finite number"
    if len(text) > max_characters:
        return f"{name} has {len(text):,} characters; the maximum is data.max_row_characters = {max_characters:,}"
    control = _CONTROL.search(text)
    if control:
        return f"{name} holds the control or broken character U+{ord(control.group()):04X}"
    tag = _HTML.search(text)
    return f"{name} holds HTML ({tag.group()[:30]})" if tag else ""


def _repeats(row: DataRow, place: str, seen: dict[str, str]) -> RowFault | None:
    """Return the fault of a row with an earlier row's id or question.

    Otherwise remember both.
    """
    for kind, key in (("id", f"id:{row.ex_id}"), ("question", f"question:{row.question}")):
        if key in seen:
            what = f"{kind} {row.ex_id!r}" if kind == "id" else "question"
            before, _, line = seen[key].rpartition(":")
            where = f"line {line}" if before == place.rpartition(":")[0] else seen[key]
            return RowFault(place, f"repeats the {what} of {where}")
    seen[f"id:{row.ex_id}"] = seen[f"question:{row.question}"] = place
    return None


def _summary(faults: list[RowFault]) -> str:
    """Return one line: each reason, its first place, the number of others."""
    places: dict[str, list[str]] = {}
    for fault in faults:
        places.setdefault(fault.reason, []).append(fault.place)
    reasons = [
        f"{found[0]}{f' and {len(found) - 1:,} more lines' if len(found) > 1 else ''}: {reason}"
        for reason, found in places.items()
    ]
    shown = "; ".join(reasons[:SHOWN_FAULTS])
    more = f"; and {len(reasons) - SHOWN_FAULTS} more faults" if len(reasons) > SHOWN_FAULTS else ""
    return f"{shown}{more} (correct or remove)"
