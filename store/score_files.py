"""Scores from JSONL files: one object a line with `id` and `correct`.

Any evaluation can write such files. `correct` is true, false or a score between 0 and 1. Two fields are
optional: `task` splits a file into several comparisons, `sample` numbers several completions of one question.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from profiles.errors import UserError
from store.records import ROUNDING
from store.wording import abridged


class InputError(UserError, ValueError):
    """An input that cannot be used.

    The message gives file, line number and what to do.
    """


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line numbers, from 1, and objects of a JSONL file.

    Blank lines are skipped.

    Raises: InputError if the file cannot be read or a line is not a JSON object.
    """
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _object(path, number, line)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; give a readable file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); write the file as UTF-8 JSONL") from None


def read_scores(path: Path) -> dict[str, dict[str, float]]:
    """Read task → question id → score from a JSONL file.

    A score is the mean over the question's samples.

    Raises: InputError if the file is empty, or a row is invalid or repeated.
    """
    samples: dict[str, dict[str, dict[str, float]]] = {}
    lines: dict[tuple[str, str, str], int] = {}
    for number, row in read_objects(path):
        # `grade` could not judge this row, and reported it.
        if row.get("outcome") == "invalid_gold":
            continue
        task, question, sample = (
            str(row.get("task", "")),
            _identity(path, number, row),
            str(row.get("sample", "")),
        )
        if first := lines.get((task, question, sample)):
            raise InputError(
                f"{path}:{number}: id {question!r} again (first on line {first}); make every id unique"
            )
        lines[task, question, sample] = number
        samples.setdefault(task, {}).setdefault(question, {})[sample] = _score(path, number, row)
    if not samples:
        raise InputError(f"{path}: holds no rows; expected one object a line with `id` and `correct`")
    return {
        task: {question: sum(scores.values()) / len(scores) for question, scores in questions.items()}
        for task, questions in samples.items()
    }


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{number}: not JSON: {error.msg} at column {error.colno}; fix the line"
        ) from None
    # A number of thousands of digits, or deeply nested lists.
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}:{number}: not JSON: {error}; fix the line") from None
    if not isinstance(row, dict):
        raise InputError(f"{path}:{number}: a {type(row).__name__}, not an object; write {{…}} on every line")
    return row


def _identity(path: Path, number: int, row: dict[str, Any]) -> str:
    question = row.get("id")
    if isinstance(question, bool) or not isinstance(question, (str, int)):
        raise InputError(
            f"{path}:{number}: no `id` (text or whole number); give every row the id of its question"
        )
    return str(question)


def _shown(value: Any) -> str:
    return abridged(json.dumps(value, ensure_ascii=False))


def _score(path: Path, number: int, row: dict[str, Any]) -> float:
    score = row.get("correct")
    if not isinstance(score, (bool, int, float)) or not 0.0 <= score <= 1.0 + ROUNDING:
        raise InputError(
            f"{path}:{number}: no `correct` (true, false, or a score from 0 to 1); got {_shown(score)}"
        )
    return min(float(score), 1.0)
