"""`grade` on files in which some gold answers cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mathrl_tui.cli import app

ROWS = [
    {"id": "a", "completion": "\\boxed{3}", "answer": "3"},
    {"id": "b", "completion": "\\boxed{3}", "answer": "####"},
    {"completion": "\\boxed{4}", "answer": "3"},
    {"id": "d", "completion": "\\boxed{3}", "answer": "   "},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_an_unreadable_gold_is_counted_and_named_and_the_others_are_graded(file: Path) -> None:
    out = file.with_name("out.jsonl")
    done = CliRunner().invoke(app, ["grade", str(file), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["n"], facts["rate"]) == (2, 0.5)
    assert facts["outcomes"] == {"correct": 1, "wrong": 1, "no_answer": 0, "truncated": 0, "invalid_gold": 2}
    assert [(row["line"], row["id"]) for row in facts["invalid_gold"]] == [(2, "b"), (4, "d")]
    verdicts = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["outcome"], row["correct"]) for row in verdicts] == [
        ("correct", True),
        ("invalid_gold", None),
        ("wrong", False),
        ("invalid_gold", None),
    ]


def test_the_summary_names_the_rows_that_are_not_graded(file: Path) -> None:
    done = CliRunner().invoke(app, ["grade", str(file)])
    assert "50.0 % of 2 correct" in done.stdout
    assert "2 invalid gold" in done.stdout
    assert "line 2 (id b) not graded: gold answer" in done.stdout


def test_a_file_without_any_gold_answer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"completion": "\\\\boxed{3}", "answer": "####"}\n')
    done = CliRunner().invoke(app, ["grade", str(path)])
    assert done.exit_code != 0


def test_graded_files_with_such_rows_can_be_compared(file: Path) -> None:
    rows = [row | {"id": str(place)} for place, row in enumerate(ROWS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = file.with_name("out.jsonl")
    assert CliRunner().invoke(app, ["grade", str(file), "--out", str(out)]).exit_code == 0
    done = CliRunner().invoke(app, ["compare", str(out), str(out), "--json"])
    assert done.exit_code == 0, done.output
