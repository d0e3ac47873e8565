"""The data set's own worked solutions as traces, without a teacher.

Every report names them as such.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.data.prompts import worked
from engine.data.rows import DataRow
from engine.data.trace import Trace
from engine.grading import grade


def own_solutions(rows: Sequence[DataRow], instruction: str) -> list[Trace]:
    """Return a trace for each row that has a worked solution.

    Its answer has the form that `instruction` requests.
    """
    rows = [row for row in rows if row.solution]
    texts = [worked(row, instruction) for row in rows]
    return [
        Trace(row.ex_id, 0, text, row.answer, grade(text, row.answer).correct, finished=True)
        for row, text in zip(rows, texts, strict=True)
    ]
