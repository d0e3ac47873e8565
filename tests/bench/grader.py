"""Compare the grader with math-verify: verdicts and time per row.

The result is a Markdown table.

    python -m tests.bench.grader ROWS.jsonl …

Rows with `completion`, `answer` and `expected_correct` are graded unchanged. Solutions (GSM8K's `question`
and `answer`, or `problem`, `solution` and `answer`) give two rows each. One compares with their own answer,
which is right, the other with the next different answer of the file, which is wrong.
math-verify is called as in its guide: `verify(parse(gold), parse(completion))` with the gold answer between
dollar signs.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.grading import grade, read_gold
from store.score_files import read_objects

HEADER = (
    "| rows | n | grader | right | accepted though wrong | rejected though right | ms median | ms max |",
    "|---|---:|---|---:|---:|---:|---:|---:|",
)


class Case(NamedTuple):
    """A completion, the gold answer and the right verdict."""

    completion: str
    gold: str
    correct: bool


class GraderResult(NamedTuple):
    """Verdicts of one grader on one file's cases.

    Times are in seconds.
    """

    cases: Sequence[Case]
    verdicts: list[bool]
    seconds: list[float]

    def line(self, rows: str, grader: str) -> str:
        """Return one line of the table."""
        accepted = sum(v and not c.correct for c, v in zip(self.cases, self.verdicts, strict=True))
        rejected = sum(c.correct and not v for c, v in zip(self.cases, self.verdicts, strict=True))
        right = len(self.cases) - accepted - rejected
        middle, longest = statistics.median(self.seconds) * 1000, max(self.seconds) * 1000
        return (
            f"| {rows} | {len(self.cases):,} | {grader} | {right:,} ({right / len(self.cases):.2%}) | {accepted:,} "
            f"| {rejected:,} | {middle:.3f} | {longest:,.0f} |"
        )


def read_cases(path: Path) -> list[Case]:
    """Return the cases of a JSONL file of labelled rows or of solutions."""
    rows = [row for _, row in read_objects(path)]
    if rows and "expected_correct" in rows[0]:
        return [Case(row["completion"], row["answer"], bool(row["expected_correct"])) for row in rows]
    return list(_solutions(rows))


def _solutions(rows: list[dict[str, Any]]) -> Iterator[Case]:
    texts = [row["solution"] if "solution" in row else row["answer"] for row in rows]
    golds = [row["answer"].rpartition("####")[2].strip() for row in rows]
    for place, (text, gold) in enumerate(zip(texts, golds, strict=True)):
        yield Case(text, gold, True)
        others = (golds[(place + step) % len(golds)] for step in range(1, len(golds)))
        other = next(
            (other for other in others if read_gold(other).canonical != read_gold(gold).canonical), None
        )
        if other is not None:
            yield Case(text, other, False)


def measure(cases: Sequence[Case], verdict: Callable[[Case], bool]) -> GraderResult:
    """Run `verdict` on every case and measure the time of each."""
    verdicts, seconds = [], []
    for case in cases:
        started = time.perf_counter()
        verdicts.append(verdict(case))
        seconds.append(time.perf_counter() - started)
    return GraderResult(cases, verdicts, seconds)


def ours(case: Case) -> bool:
    """Return the verdict of this project's grader."""
    return grade(case.completion, case.gold).correct


def math_verify(case: Case) -> bool:
    """Return the verdict of math-verify alone.

    It uses signals, so only the main thread may call this.
    """
    from math_verify import parse, verify

    return bool(verify(parse(f"${case.gold}$"), parse(case.completion)))


def main() -> None:
    """Print one line for each file and grader."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, help="JSONL")
    parser.add_argument("--show", action="store_true", help="list the rows that our grader gets wrong")
    arguments = parser.parse_args()
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    # Start the child process before the first row is timed.
    grade("\\boxed{\\sqrt{4}}", "2")
    print(*HEADER, sep="\n")
    for path in arguments.files:
        cases = read_cases(path)
        for name, verdict in (("ours", ours), ("math-verify", math_verify)):
            result = measure(cases, verdict)
            print(result.line(f"{path.parent.name}/{path.stem}", name), flush=True)
            if arguments.show and verdict is ours:
                for case, given in zip(cases, result.verdicts, strict=True):
                    if given != case.correct:
                        print(f"  expected {case.correct}: {case.completion[-200:]!r} for {case.gold!r}")


if __name__ == "__main__":
    main()
