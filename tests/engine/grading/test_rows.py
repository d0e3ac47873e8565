"""The grader on rows of every kind of answer: labelled by hand from mathematics, correct and incorrect ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import psutil
import pytest

from engine.grading import grade
from engine.grading import symbolic as grading_symbolic
from tests.bench.grader import Case, math_verify, measure, ours, read_cases
from tests.support.places import ROOT

FILE = Path(__file__).with_name("grader_rows.jsonl")


def _rows() -> dict[str, list[dict[str, str]]]:
    kinds: dict[str, list[dict[str, str]]] = defaultdict(list)
    for line in FILE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        kinds[row["kind"]].append(row)
    return kinds


ROWS = _rows()


def cpu() -> float:
    """CPU seconds that this process and its living children have used: on a busy machine wall time is longer."""
    return time.process_time() + sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children())


@pytest.fixture(scope="module", autouse=True)
def child() -> None:
    """The grader's child is up: its start, which imports sympy, is part of no row's time."""
    assert grade("\\boxed{\\sqrt{4}}", "2").correct


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_every_row_of_a_kind_gets_the_right_verdict(kind: str) -> None:
    wrong = []
    for row in ROWS[kind]:
        started = cpu()
        verdict = grade(row["completion"], row["answer"])
        assert cpu() - started < 5, row
        if verdict.correct is not row["expected_correct"]:
            wrong.append((row["completion"], row["answer"], verdict))
    assert wrong == []


def test_every_kind_holds_both_verdicts() -> None:
    for kind, rows in ROWS.items():
        share = sum(bool(row["expected_correct"]) for row in rows) / len(rows)
        assert 0.2 < share < 0.8, kind


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9^9}}",
        "9^{9^{9}}",
        "(10^{9})!",
        "100000!",
        "\\binom{1000000000}{500000000}",
        "\\sum_{k=1}^{10^{9}}\\frac{1}{k}",
        "e^{e^{e^{e^{e}}}}",
        "\\sqrt{" * 50 + "2" + "}" * 50,
        "{" * 190 + "1" + "}" * 190,
        "\\frac{1}{0}",
        "\\tan(10^{15000})",
    ],
)
def test_a_hostile_answer_takes_less_than_five_seconds(text: str) -> None:
    grade("\\boxed{\\sqrt{4}}", "2")  # the child is up
    started = cpu()
    assert not grade(f"\\boxed{{{text}}}", "\\sqrt{17}").correct
    assert cpu() - started < 5
    assert grade("\\boxed{\\sqrt{9}}", "3").correct, "the grader lives on"


@pytest.mark.parametrize(
    "completion",
    [
        "\\boxed{1}" * 1_200_000,
        "the answer is 5. " * 600_000,
        "{" * 10_000_000,
        "#### " * 2_000_000,
        "**" * 5_000_000,
    ],
)
def test_ten_megabytes_take_less_than_five_seconds(completion: str) -> None:
    started = cpu()
    assert not grade(completion, "17").correct
    assert cpu() - started < 5


def test_many_questions_of_one_row_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve parts against twelve others are up to 144 questions."""
    hard = ", ".join(f"\\sum_{{k=1}}^{{10^{{9}}}}\\frac{{{n}}}{{k}}" for n in range(1, 5))
    monkeypatch.setattr(grading_symbolic, "ROW_SECONDS", 1.0)
    grade("\\boxed{\\sqrt{4}}", "2")
    before = cpu()
    assert not grade(f"\\boxed{{{hard}}}", "\\sqrt{2}, \\sqrt{3}, \\sqrt{5}, \\sqrt{7}").correct
    assert cpu() - before < 3


def test_an_undecided_verdict_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(grading_symbolic, "ROW_SECONDS", 0.0)
        assert not grade("\\boxed{\\sqrt{1225}}", "35").correct
    assert grade("\\boxed{\\sqrt{1225}}", "35").correct


def test_the_table_counts_false_verdicts_of_both_graders(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"completion": "\\\\boxed{2^{-60}}", "answer": "2^{-61}", "expected_correct": false}\n'
        '{"completion": "\\\\boxed{5}", "answer": "5", "expected_correct": true}\n'
    )
    cases = read_cases(path)
    assert measure(cases, ours).line("rows", "ours").startswith("| rows | 2 | ours | 2 (100.00%) | 0 | 0 |")
    assert (
        measure(cases, math_verify)
        .line("rows", "theirs")
        .startswith("| rows | 2 | theirs | 1 (50.00%) | 1 | 0 |")
    )


def test_solutions_are_paired_with_their_own_answer_and_another(tmp_path: Path) -> None:
    path = tmp_path / "solutions.jsonl"
    path.write_text(
        '{"question": "?", "answer": "so\\n#### 4"}\n{"question": "?", "answer": "so\\n#### 4"}\n'
        '{"question": "?", "answer": "so\\n#### 5"}\n'
    )
    assert read_cases(path)[:4] == [
        Case("so\n#### 4", "4", True),
        Case("so\n#### 4", "5", False),
        Case("so\n#### 4", "4", True),
        Case("so\n#### 4", "5", False),
    ]


def test_a_busy_machine_does_not_change_a_verdict() -> None:
    """The child stands still for longer than any deadline and uses no CPU time."""
    assert grade("\\boxed{\\sqrt{1681}}", "41").correct
    child = grading_symbolic._child
    assert child is not None
    os.kill(child.process.pid, signal.SIGSTOP)
    wake = threading.Timer(grading_symbolic.ROW_SECONDS + 1, os.kill, (child.process.pid, signal.SIGCONT))
    wake.start()
    verdict = grade("\\boxed{\\sqrt{1764}}", "42")
    wake.join()
    assert verdict.correct
    assert grading_symbolic._child is child


def test_a_verdict_at_the_deadline_is_marked() -> None:
    hard = "\\sum_{k=1}^{100000}\\sqrt{k}"
    assert grade(f"\\boxed{{{hard}}}", "\\frac{\\pi}{7}").undecided
    assert not grade("\\boxed{\\sqrt{2}}", "\\sqrt{3}").undecided


def test_files_of_the_current_directory_are_not_imported(tmp_path: Path) -> None:
    for name in ("random.py", "sympy.py", "json.py", "engine/__init__.py", "engine/grading/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(
            f"open({str(tmp_path / 'imported')!r}, 'w').close()\nraise ImportError\n"
        )
    root = str(ROOT)
    program = (
        f"import os, sys; sys.path.insert(0, {root!r}); from engine.grading import grade\n"
        f"os.chdir({str(tmp_path)!r}); sys.path.insert(0, '')\n"
        "assert grade('\\\\boxed{\\\\sqrt{16}}', '4').correct\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, capture_output=True)
    assert not (tmp_path / "imported").exists()


def test_another_version_in_the_child_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading_symbolic, "_child", None)
    monkeypatch.setattr(grading_symbolic, "_identity", lambda: '["elsewhere/symbolic.py", "3"]')
    with pytest.raises(RuntimeError, match="elsewhere"):
        grading_symbolic.equal("\\sqrt{2}", "\\sqrt{8}")


def test_a_forked_copy_asks_a_child_of_its_own() -> None:
    assert grade("\\boxed{\\sqrt{81}}", "9").correct
    with grading_symbolic._LOCK:  # as if a thread were asking at the time of the fork
        copy = os.fork()
        if copy == 0:
            verdict = grade("\\boxed{\\sqrt{121}}", "11").correct
            os._exit(0 if verdict else 1)
    assert os.waitpid(copy, 0)[1] == 0
