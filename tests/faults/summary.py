"""The campaign's results as a table: fault family by outcome, and every finding with the command that repeats it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.faults.judge import OUTCOMES, PROMISED


def write_summary(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """Write the summary of `results` to `path` as Markdown."""
    path.write_text(summary(results))


def summary(results: Sequence[dict[str, Any]]) -> str:
    """Return the summary as Markdown."""
    faults = sum(len(each["faults"]) for each in results)
    columns = [each for each in (*OUTCOMES[::-1], "BROKEN") if any(one["outcome"] == each for one in results)]
    by_family: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        for fault in result["faults"]:
            by_family[fault["family"]][result["outcome"]] += 1
    lines = [f"{len(results)} runs, {faults} faults, {sum(each['resumes'] for each in results)} resumes.", ""]
    lines += _table(["faults in runs that ended", *columns], _rows(by_family, columns))
    lines += [
        "",
        *_table(["runs", *columns], [["all", *_counts(Counter(one["outcome"] for one in results), columns)]]),
    ]
    findings = [one for one in results if one["outcome"] not in PROMISED]
    lines += ["", "## Findings", ""] if findings else []
    for one in findings:
        names = ", ".join(fault["name"] for fault in one["faults"])
        lines.append(f"- `python -m tests.faults --seed {one['seed']} --only {one['number']}` ({names})")
        lines += [f"  - {each}" for each in one["findings"] if not each.startswith(PROMISED)]
    return "\n".join(lines) + "\n"


def _rows(by_family: dict[str, Counter[str]], columns: Sequence[str]) -> list[list[str]]:
    rows = [[family, *_counts(by_family[family], columns)] for family in sorted(by_family)]
    return [*rows, ["all", *_counts(sum(by_family.values(), Counter()), columns)]]


def _counts(counter: Counter[str], columns: Sequence[str]) -> list[str]:
    return [str(counter[column]) for column in columns]


def _table(titles: Iterable[str], rows: Iterable[Sequence[str]]) -> list[str]:
    titles = list(titles)
    return [_line(titles), _line(["---"] * len(titles)), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
