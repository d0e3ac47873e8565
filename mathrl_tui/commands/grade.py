"""`grade`: the project's grader on a file of completions."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.options import AsJson
from mathrl_tui.commands.printing import print_json
from mathrl_tui.core.text import percent
from store.atomic import replacing

OUTCOMES = ("correct", "wrong", "no_answer", "truncated", "invalid_gold")
# Maximum number of rows with an invalid gold answer that the summary lists.
SHOWN = 5


def grade(
    file: Annotated[
        Path, typer.Argument(help="JSONL with `completion` and `answer`; `truncated` or `finish_reason`")
    ],
    out: Annotated[
        Path | None, typer.Option(help="JSONL for the rows with their verdicts", dir_okay=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Grade completions and print a summary.

    Each row gets `correct`, `extracted` and `outcome`.
    A row without a gold answer in `answer` gets the outcome `invalid_gold` and no verdict.
    """
    if out is not None and not out.parent.is_dir():
        raise WrongInput(f"--out {out}: the folder {out.parent} does not exist; create it first")
    invalid: list[dict[str, Any]] = []
    graded = list(_graded(file, invalid))
    if not graded:
        raise WrongInput(
            f"{file}: the file is empty; expected one object a line with `completion` and `answer`"
        )
    if len(invalid) == len(graded):
        raise WrongInput(
            f"{file}:{invalid[0]['line']}: {invalid[0]['reason']}; no row has an answer to grade against"
        )
    if out is not None:
        _write(out, graded)
    _summarise(graded, invalid, as_json)


def _graded(file: Path, invalid: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of `file` with their verdicts.

    Add those with an unreadable gold answer to `invalid`.
    """
    from engine.grading import grade as verdict
    from store.score_files import read_objects

    for number, row in read_objects(file):
        completion, answer = _text(file, number, row, "completion"), _text(file, number, row, "answer")
        truncated = bool(row.get("truncated")) or row.get("finish_reason") == "length"
        try:
            found = verdict(completion, answer, truncated=truncated)
        except ValueError as error:
            invalid.append({"line": number, "id": row.get("id"), "reason": str(error)})
            yield {**row, "correct": None, "extracted": "", "outcome": "invalid_gold"}
            continue
        # Left from an earlier grading.
        row.pop("undecided", None)
        graded = {**row, "correct": found.correct, "extracted": found.answer, "outcome": found.outcome}
        yield {**graded, "undecided": True} if found.undecided else graded


def _text(file: Path, number: int, row: dict[str, Any], field: str) -> str:
    value = row.get(field)
    if field == "answer" and isinstance(value, (int, float)) and not isinstance(value, bool):
        # pandas writes NaN for a missing value.
        if isinstance(value, float) and not math.isfinite(value):
            raise WrongInput(
                f"{file}:{number}: `answer` is {value}; give the answer itself or leave the row out"
            )
        return str(value)
    if not isinstance(value, str):
        raise WrongInput(f"{file}:{number}: no `{field}` (text); every row needs `completion` and `answer`")
    return value


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write all rows or none."""
    with (
        replacing(out, writer=f".{os.getpid()}", durable=False) as draft,
        draft.open("w", encoding="utf-8") as lines,
    ):
        lines.writelines(_line(row) for row in rows)


def _line(row: dict[str, Any]) -> str:
    """Return `row` as JSON.

    A lone surrogate, which UTF-8 cannot encode, stays an escape.
    """
    text = json.dumps(row, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode() + "\n"


def _summarise(rows: list[dict[str, Any]], invalid: list[dict[str, Any]], as_json: bool) -> None:
    """Print the rate of the judged rows, the outcomes, and unjudged rows."""
    from store.statistics.rates import wilson

    outcomes = Counter(row["outcome"] for row in rows)
    counts = {outcome: outcomes[outcome] for outcome in OUTCOMES}
    n = len(rows) - len(invalid)
    undecided = sum(bool(row.get("undecided")) for row in rows)
    interval = wilson(outcomes["correct"], n)
    if as_json:
        rate = {"rate": interval.estimate, "ci_low": interval.low, "ci_high": interval.high}
        facts = {
            "n": n,
            **rate,
            "confidence": interval.confidence,
            "outcomes": counts,
            "undecided": undecided,
            "invalid_gold": invalid,
        }
        print_json(facts)
        return
    print(
        f"{percent(interval.estimate)} of {n} correct, "
        f"95 % interval {percent(interval.low)} to {percent(interval.high)}"
    )
    print(", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in counts.items()))
    if undecided:
        print(f"{undecided} of the wrong ones were not decided within the time for one row")
    for row in invalid[:SHOWN]:
        name = f"line {row['line']}" + (f" (id {row['id']})" if row["id"] is not None else "")
        print(f"{name} not graded: {row['reason']}")
    if len(invalid) > SHOWN:
        print(f"and {len(invalid) - SHOWN} more rows not graded; --json lists all")
