"""The shrunk demo and its undisturbed run, with which every disturbed one is compared.

A Qwen2 of ten thousand parameters learns to repeat the second of two numbers: data, traces, preprocess, SFT, GRPO from
the SFT checkpoint, evaluation of three arms, all with the real engine on the CPU. Its answers are sums, so that the
grader compares them in its child process. Everything but wall-clock metrics repeats to the bit.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.journal_view import Span
from tests.faults.subject import ROOT, Said, Subject

SETTINGS = ("grpo.steps=16",)
WALL_CLOCK = re.compile(r"/time/|/worker/|tokens_per_second|^gpu/")
ROWS = """
SELECT 'scalar', metric, step, '', '', 0, CAST(value AS VARCHAR) FROM scalar WHERE run_id = '{run}'
UNION ALL
SELECT 'example', arm, step, task, ex_id, sample,
  concat_ws('|', correct, score, outcome, output, answer, tokens, finish) FROM eval_row WHERE run_id = '{run}'
"""
_MAKE = """
import pathlib, sys
from tests.support.small_experiment import make_inputs
make_inputs(pathlib.Path(sys.argv[1]))
"""

Key = tuple[Any, ...]  # a row's identity


@dataclass
class Reference:
    """What the undisturbed run left."""

    rows: dict[Key, str] = field(default_factory=dict)
    spans: dict[tuple[str, str], Span] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        content = asdict(self) | {
            "rows": [[*key, value] for key, value in self.rows.items()],
            "spans": [[*stage, *span] for stage, span in self.spans.items()],
        }
        path.write_text(json.dumps(content))

    @classmethod
    def load(cls, path: Path) -> Reference:
        content = json.loads(path.read_text())
        content["rows"] = {tuple(key): value for *key, value in content["rows"]}
        content["spans"] = {(stage, arm): Span(*span) for stage, arm, *span in content["spans"]}
        return cls(**content)


def prepare(folder: Path) -> Reference:
    """Make inputs and the undisturbed run in `folder`, or load what an earlier campaign made there."""
    known = folder / "reference.json"
    if known.exists():
        return Reference.load(known)
    inputs = folder / "inputs"
    if not (inputs / "seconds.toml").exists():
        subprocess.run([sys.executable, "-c", _MAKE, str(inputs)], cwd=ROOT, check=True, capture_output=True)
        for path in (inputs / "rows").glob("*.jsonl"):
            path.write_text(re.sub(r"#### (\d+)", r"#### \1 + \1", path.read_text()))
    subject = Subject(
        folder / f"undisturbed-{time.time_ns()}", inputs / "seconds.toml", SETTINGS, "undisturbed"
    )
    began = time.monotonic()
    try:
        subject.start()
        subject.watch(lambda: False)
        subject.quiet()
        rows, _ = stored_rows(subject)
        reference = Reference(dict(rows), subject.journal.spans, tables(subject), time.monotonic() - began)
    finally:
        subject.close()
    if subject.journal.state != "done" or len(rows) != len(reference.rows):
        raise RuntimeError(f"the undisturbed run ended as {subject.journal.state}: {subject.journal.reason}")
    subject.home.rename(folder / "undisturbed")
    reference.save(known)
    return reference


def stored_rows(subject: Subject) -> tuple[list[tuple[Key, str]], Said]:
    """Return all rows of the run as the store's raw tables have them, and what the command said."""
    said = subject.cli("sql", "--json", ROWS.format(run=subject.run_id).replace("\n", " "))
    found = json.loads(said.stdout)["rows"] if said.status == 0 else []
    return [(tuple(key), str(value)) for *key, value in found], said


def tables(subject: Subject) -> dict[str, Any]:
    """Return the result tables as `export` writes them, without what differs between two runs."""
    out = subject.folder / f"tables-{time.time_ns()}"
    said = subject.cli(
        "export", subject.run_id, "--format", "json", "--what", "evals,comparisons", "--out", str(out)
    )
    if said.status:
        return {}
    found = {path.stem: json.loads(path.read_text()) for path in sorted(out.glob("*.json"))}
    return json.loads(json.dumps(found).replace(subject.run_id, "RUN"))
