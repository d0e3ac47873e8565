"""The stage `traces`: write the worked solutions for SFT and a report.

The source is either the data set's own solutions or a teacher model.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.context import Context, StageFailed
from engine.data import inputs
from engine.data.cache import building, is_whole
from engine.data.token_rows import write_lines
from engine.data.trace import Trace
from engine.teacher.chosen import chosen
from engine.teacher.own import own_solutions
from store.events import InputReport, StageChange

STAGE = "traces"


def run(context: Context) -> None:
    """Create the traces, or reuse them.

    Raises: StageFailed if no solution states its row's answer.
    """
    folder = inputs.traces_folder(context)
    if is_whole(context, folder, STAGE):
        message = f"already done for the same inputs: {folder.name}"
        context.emit(StageChange("skipped").event(message, STAGE))
    elif context.profile.traces.source == "solutions":
        _own(context, folder)
    else:
        _from_teacher(context, folder)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    context.emit(InputReport(report).event(report["summary"], STAGE))


def _own(context: Context, folder: Path) -> None:
    rows = chosen(inputs.rows(context, "train"), context.profile.traces.limit, context.profile.data.seed)
    found = own_solutions(rows, context.profile.preprocess.system_prompt)
    settings, name = context.profile.traces, context.profile.data.source
    contradict = [trace.ex_id for trace in found if not trace.correct]
    dropped = set(contradict) if settings.wrong_answers == "drop" else set()
    kept = [trace for trace in found if trace.ex_id not in dropped]
    report = {"source": "solutions", "rows": len(rows), "traces": len(kept), "wrong": contradict}
    summary = f"{len(kept):,} traces: {name}'s own solutions, no teacher's"
    if len(found) < len(rows):
        summary += f"; {len(rows) - len(found):,} rows have an answer alone"
    if contradict:
        fate = {"drop": "dropped", "keep": "kept", "mark": "marked as wrong"}[settings.wrong_answers]
        summary += (
            f"; {len(contradict):,} state another answer than their row's ({fate}; first: {contradict[0]})"
        )
    if not kept and found:
        raise StageFailed(
            f"traces: no solution of {name} states the answer of its row (first: {contradict[0]});"
            " fix the data"
        )
    _write(folder, kept, report | {"summary": summary})


def _from_teacher(context: Context, folder: Path) -> None:
    # Import late: the client library takes a second to import.
    from engine.teacher.collect import collect

    rows = inputs.rows(context, "train")
    found, report = collect(context, rows)
    _write(folder, found, report)


def _write(folder: Path, found: list[Trace], report: dict[str, Any]) -> None:
    with building(folder) as made:
        write_lines(made / "traces.jsonl", map(asdict, found))
        (made / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")
