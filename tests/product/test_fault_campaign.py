"""The campaign of injected faults: a short one, and that it sees what it is there to see."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from store.journal import START, encode
from store.records import Event, Example, Scalar
from tests.faults.draw import FAMILIES, draw
from tests.faults.experiment import Key, Reference
from tests.faults.journal_view import JournalView, Span
from tests.faults.judge import compare_rows, judge, outcome
from tests.faults.subject import Said, Subject
from tests.faults.summary import summary
from tests.faults.user import GivenUp
from tests.support.places import ROOT

FAMILIES_KEPT = ("--families", "processes,commands,disk,contents,copies,clock")
SPANS = {
    ("data", ""): Span(0, 0, 0.0, 0.2),
    ("traces", ""): Span(0, 0, 0.2, 0.3),
    ("preprocess", ""): Span(0, 0, 0.3, 6.0),
    ("sft", "sft"): Span(0, 1500, 6.0, 8.0),
    ("grpo", "sft+grpo"): Span(1500, 2100, 8.0, 9.0),
    ("eval", ""): Span(2100, 2210, 9.0, 9.2),
}


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_short_campaign_ends_as_promised(tmp_path: Path) -> None:
    """Three runs of several faults each; every run ends equal to the undisturbed one, or with reason and remedy."""
    options = ["--count", "3", "--seed", "1843", "--jobs", "2", "--folder", str(tmp_path), *FAMILIES_KEPT]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "3 runs" in done.stdout


def test_a_plan_follows_from_seed_and_number_alone() -> None:
    every = tuple(FAMILIES)
    plans = [draw(3, number, SPANS, every, mounts=True) for number in range(60)]
    random.seed(1)
    assert plans == [draw(3, number, SPANS, every, mounts=True) for number in range(60)]
    assert plans != [draw(4, number, SPANS, every, mounts=True) for number in range(60)]
    strikes = [strike for plan in plans for strike in plan.strikes]
    assert {fault.family for strike in strikes for fault in strike.choices[:1]} == set(every)
    assert {strike.instant.stage[0] for strike in strikes} >= {
        "data",
        "preprocess",
        "sft",
        "grpo",
        "eval",
        "end",
    }
    without = [draw(3, number, SPANS, every, mounts=False) for number in range(60)]
    assert not any(plan.needs_mounts for plan in without)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """A run that was never started."""
    found = Subject(tmp_path / "run", tmp_path / "none.toml", (), "token of no process")
    found.run_id = "run-1"
    return found


REFERENCE = Reference(
    rows={("scalar", "sft/train/loss", step, "", "", 0): str(step / 7) for step in range(5)}
)


def findings(subject: Subject, change: dict[Key, list[str]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is found in the rows of the undisturbed run, some of which have other values, or several, or none."""
    rows = [(key, value) for key, known in REFERENCE.rows.items() for value in change.get(key, [known])]
    return compare_rows(subject, REFERENCE, rows, None)


def test_rows_lost_doubled_and_changed_are_seen(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ("scalar", "sft/train/loss", 3, "", "", 0)
    quiet = Said(("runs",), 0, "run-1 done", "")
    loud = Said(("runs",), 0, "run-1: 1 damaged line of the journal is left out", "")
    monkeypatch.setattr(Subject, "cli", lambda *_, **__: quiet)
    assert findings(subject, {}, monkeypatch) == []
    assert outcome(findings(subject, {key: []}, monkeypatch)) == "LOST"
    assert outcome(findings(subject, {key: ["1", "1"]}, monkeypatch)) == "DOUBLED"
    assert outcome(findings(subject, {key: ["1"]}, monkeypatch)) == "CHANGED"
    monkeypatch.setattr(Subject, "cli", lambda *_, **__: loud)
    assert outcome(findings(subject, {key: []}, monkeypatch)) == "named"


def test_an_end_without_a_remedy_is_a_finding(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.judge.stored_rows", lambda _: ([], Said(("sql",), 0, "", "")))
    command = ("run", "--resume", "run-1")
    ends = {
        "run-1: interrupted; `mathrl-tui run --resume run-1` goes on": "named",
        "it does not work": "UNNAMED",
        "a fault of this program: KeyError: 1; run it again with --debug": "UNNAMED",
    }
    for line, expected in ends.items():
        subject.said = [Said(command, 1, "", f"{line}\n")]
        assert outcome(judge(subject, REFERENCE, GivenUp(subject.said[0]))) == expected


def test_the_view_of_a_journal_counts_whole_lines_alone(tmp_path: Path) -> None:
    lines = [
        encode(
            [
                Event("stage", "", "sft", "sft", payload={"status": "started"}),
                Scalar("sft/train/loss", 1, 0.5),
            ],
            *START,
        ),
        encode([Example("sft", 1, "rows", "q1", 0, True, 1.0, "correct", "", "", 3)], *START),
        encode([Event("state", "", payload={"state": "done", "reason": "well"})], *START),
    ]
    damaged = lines[1].replace(b"q1", b"q2")
    assert zlib.crc32(damaged[9:-1]) != zlib.crc32(lines[1][9:-1])
    segment = tmp_path / "1.j"
    view = JournalView(tmp_path)
    segment.write_bytes(lines[0] + damaged + lines[1][:20])
    view.poll()
    assert list(view.rows) == [("scalar", "sft/train/loss", 1)]
    segment.write_bytes(lines[0] + damaged + lines[1] + lines[2])
    view.poll()
    assert list(view.rows) == [("scalar", "sft/train/loss", 1), ("example", "sft", 1, "rows", "q1", 0)]
    assert (view.state, view.reason, view.stages) == ("done", "well", {("sft", "sft"): "started"})


def test_the_summary_counts_faults_by_family_and_outcome() -> None:
    fault = {"family": "disk", "name": "disk full", "at": "", "did": ""}
    results = [
        {"number": 0, "seed": 5, "outcome": "equal", "findings": [], "faults": [fault, fault], "resumes": 1},
        {
            "number": 1,
            "seed": 5,
            "outcome": "LOST",
            "findings": ["LOST: 3 rows"],
            "faults": [fault],
            "resumes": 0,
        },
    ]
    text = summary(results)
    assert "| disk | 2 | 1 |" in text
    assert "`python -m tests.faults --seed 5 --only 1`" in text
    assert "LOST: 3 rows" in text
