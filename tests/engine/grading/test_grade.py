"""The grader against a table of hard strings, pathological input and threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.grading import grade
from engine.grading import symbolic as grading_symbolic
from tests.support.places import ROOT

# Completion, gold, verdict. Most verdicts were written by hand before the grader was; none comes from it.
NUMBERS = [
    ("\\boxed{18}", "18", True),
    ("\\boxed{18.00}", "18", True),
    ("\\boxed{18.}", "18", True),
    ("\\boxed{018}", "18", True),
    ("\\boxed{+18}", "18", True),
    ("\\boxed{18\\text{ dollars}}", "18", True),
    ("\\boxed{18 \\text{ dollars}}", "18", True),
    ("\\boxed{18\\ \\mathrm{cm}}", "18", True),
    ("\\boxed{18 dollars}", "18", True),
    ("\\boxed{18\\,\\text{cm}^2}", "18", True),
    ("\\boxed{18 \\text{ miles per hour}}", "18", True),
    ("\\boxed{\\$18}", "18", True),
    ("\\boxed{\\$18.00}", "18", True),
    ("$\\boxed{18}$", "18", True),
    ("\\boxed{$18}", "18", True),
    ("\\boxed{€18}", "18", True),
    ("\\boxed{18\\%}", "18", True),
    ("\\boxed{18 percent}", "18", True),
    ("\\boxed{18^\\circ}", "18", True),
    ("\\boxed{18°}", "18", True),
    ("\\boxed{18^{\\circ}}", "18", True),
    ("\\boxed{18\\degree}", "18", True),
    ("\\boxed{−18}", "-18", True),
    ("\\boxed{–18}", "-18", True),
    ("\\boxed{-\\$18}", "-18", True),
    ("\\boxed{-18}", "18", False),
    ("\\boxed{18}", "-18", False),
    ("\\boxed{1{,}000}", "1000", True),
    ("\\boxed{1,000}", "1000", True),
    ("\\boxed{1,\\!000}", "1000", True),
    ("\\boxed{1\\,000}", "1000", True),
    ("\\boxed{1 000}", "1000", True),
    ("\\boxed{1000}", "1,000", True),
    ("\\boxed{1,234,567.50}", "1234567.5", True),
    ("\\boxed{10,00}", "1000", False),
    ("\\boxed{1,000}", "1", False),
    ("\\boxed{\\frac{1}{2}}", "0.5", True),
    ("\\boxed{\\dfrac{1}{2}}", "\\frac12", True),
    ("\\boxed{\\tfrac12}", "1/2", True),
    ("\\boxed{½}", "0.5", True),
    ("\\boxed{1/2}", "\\frac{1}{2}", True),
    ("\\boxed{\\frac{2}{4}}", "\\frac{1}{2}", True),
    ("\\boxed{-\\frac{1}{2}}", "\\frac{-1}{2}", True),
    ("\\boxed{\\frac{36}{2}}", "18", True),
    ("\\boxed{1\\frac{4}{5}}", "1.8", True),
    ("\\boxed{1 4/5}", "1\\frac{4}{5}", True),
    ("\\boxed{\\frac{1}{3}}", "0.33", False),
    ("\\boxed{0.33}", "\\frac{1}{3}", False),
    ("\\boxed{\\frac{2}{1}}", "\\frac{1}{2}", False),
    ("\\boxed{.5}", "0.5", True),
    ("\\boxed{0.50}", ".5", True),
    ("\\boxed{50\\%}", "0.5", True),
    ("\\boxed{0.5}", "50\\%", True),
    ("\\boxed{0.18}", "18", False),
    ("\\boxed{1.8 \\times 10^3}", "1800", True),
    ("\\boxed{1.8e3}", "1800", True),
    ("\\boxed{2.5 million}", "2500000", True),
    ("\\boxed{18 thousand}", "18", False),
    ("\\boxed{x = 18}", "18", True),
    ("\\boxed{x=18}", "x=18", True),
    ("\\boxed{9 \\times 2 = 18}", "18", True),
    ("\\boxed{9 + 9}", "18", True),
    ("\\boxed{\\sqrt{324}}", "18", True),
    ("\\boxed{18x}", "18", False),
    ("\\boxed{18\\pi}", "18", False),
    ("\\boxed{18 or 19}", "18", False),
    ("\\boxed{18 or 19}", "19", False),
    ("\\boxed{18, 19}", "18", False),
    ("\\boxed{18\\text{ or }19}", "18", False),
    ("\\boxed{18 \\text{ and } 19}", "19", False),
    ("\\boxed{18/19}", "18", False),
    ("\\boxed{18-19}", "18", False),
    ("\\boxed{between 18 and 19}", "18", False),
    ("\\boxed{not 18}", "18", False),
    ("\\boxed{\\neq 18}", "18", False),
    ("\\boxed{\\le 18}", "18", False),
    ("\\boxed{x \\geq 18}", "18", False),
    ("\\boxed{≤ 18}", "18", False),
    ("\\boxed{\\lt 18}", "18", False),
    ("\\boxed{17 \\lor 18}", "18", False),
    ("\\boxed{x = 17 \\vee x = 18}", "18", False),
    ("\\boxed{17 ∨ 18}", "18", False),
    ("\\boxed{17 \\cup 18}", "18", False),
    ("\\boxed{18 \\\\ 17}", "18", False),
    ("\\boxed{18 & 17}", "18", False),
    ("\\boxed{\\$18\\$20}", "18", False),
    ("\\boxed{17$ then $18}", "18", False),
    ("\\boxed{\\$9 + \\$9}", "18", True),
    ("\\boxed{\\$9 \\times 2 = \\$18}", "18", True),
    ("\\boxed{18 \\text{ or so}}", "18", False),
    ("\\boxed{1.8.0}", "1.8", False),
    ("\\boxed{180}", "18", False),
    ("\\boxed{1 8}", "18", False),
    ("\\boxed{18.000001}", "18", False),
    ("\\boxed{17.999}", "18", False),
    ("\\boxed{eighteen}", "18", True),
    ("\\boxed{eighteen}", "80", False),
    ("\\boxed{3:30}", "330", False),
    ("\\boxed{99999999999999999999}", "99999999999999999998", False),
    ("\\boxed{99999999999999999999}", "99999999999999999999", True),
    ("\\boxed{１８}", "18", True),
    ("\\boxed{18\u00a0dollars}", "18", True),
    ("\\boxed{18\u200b}", "18", True),
    ("\\boxed{\\textbf{18}}", "18", True),
    ("\\boxed{\\mathbf{18}}", "18", True),
    ("\\boxed{ 18 }", "18", True),
    ("\\boxed{18th}", "18", True),
    ("\\boxed{18 eggs per day}", "18", True),
    ("\\boxed{(18)}", "18", True),
]

PLACES = [
    ("#### 18", "18", True),
    ("so 18.\n#### 18 ", "18", True),
    ("####18", "18", True),
    ("#### $18.00", "18", True),
    ("#### 1,800 dollars", "1800", True),
    ("#### 17\nno:\n#### 18", "18", True),
    ("#### 18\nno:\n#### 17", "18", False),
    ("#### 18 or 19", "18", False),
    ("\\boxed{17} wait \\boxed{18}", "18", True),
    ("\\boxed{18} wait \\boxed{17}", "18", False),
    ("\\boxed{18} or \\boxed{19}", "19", False),
    ("\\boxed{18} or \\boxed{19}", "18", False),
    ("\\boxed{18}, \\boxed{19}, \\boxed{20}", "20", False),
    ("$\\boxed{36/2}$, or $\\boxed{18}$", "18", True),
    ("\\boxed{1} and \\boxed{-2}", "1,-2", True),
    ("\\boxed{\\boxed{18}}", "18", True),
    ("\\boxed{\\text{\\{}18\\text{\\}}}", "18", False),
    ("\\boxed {18}", "18", True),
    ("\\fbox{18}", "18", True),
    ("\\boxed 18", "18", True),
    ("put it within \\boxed{}. It is \\boxed{18}. I used \\boxed{}.", "18", True),
    ("### Step 1\n\\boxed{18}\n#### Conclusion", "18", True),
    ("<think>\\boxed{17}</think>\\boxed{18}", "18", True),
    ("<think>\\boxed{18}</think>\\boxed{17}", "18", False),
    ("thinking \\boxed{18}</think> I am not sure.", "18", False),
    ("<think>it is \\boxed{18}", "18", False),
    ("The answer is 18.", "18", True),
    ("The answer is $18.", "18", True),
    ("The answer is 18.5.", "18.5", True),
    ("The final answer is: **18**", "18", True),
    ("**Answer:** 18 dollars", "18", True),
    ("Answer: $\\frac{36}{2}$", "18", True),
    ("The answer is 18 or 19.", "18", False),
    ("The answer is 17. No, the answer is 18.", "18", True),
    ("The answer is 18. No, the answer is 17.", "18", False),
    ("She makes 9 * 2 = $<<9*2=18>>18 every day.", "18", True),
    ("18", "18", True),
    ("It is 18 or 19.", "19", False),
    ("He sold 3 of 18.", "18", False),
    ("\\boxed{18}", "It is 9*2 = <<9*2=18>>18.\n#### 18", True),
    ("\\boxed{18}", "so we get $\\boxed{18}$.", True),
]

MATH = [
    ("\\boxed{\\left( 3, \\frac{\\pi}{2} \\right)}", "(3,\\frac{\\pi}{2})", True),
    ("\\boxed{(3, \\pi/2)}", "\\left( 3, \\frac{\\pi}{2} \\right)", True),
    ("\\boxed{(\\frac{\\pi}{2}, 3)}", "\\left( 3, \\frac{\\pi}{2} \\right)", False),
    ("\\boxed{p-q}", "p - q", True),
    ("\\boxed{q-p}", "p - q", False),
    ("\\boxed{3\\sqrt{13}}", "3 \\sqrt{13}", True),
    ("\\boxed{\\sqrt{117}}", "3\\sqrt{13}", True),
    ("\\boxed{11\\sqrt{2}}", "11\\sqrt2", True),
    ("\\boxed{√12}", "2\\sqrt{3}", True),
    ("\\boxed{3√(10)}", "\\sqrt{90}", True),
    ("\\boxed{√1.44}", "1.2", True),
    ("\\boxed{5√2/2}", "\\frac{5\\sqrt{2}}{2}", True),
    ("\\boxed{√12}", "2", False),
    ("\\boxed{\\frac{\\sqrt{3}}{3}}", "\\frac{1}{\\sqrt{3}}", True),
    ("\\boxed{\\frac{\\sqrt{3}}{2}}", "\\frac{\\sqrt{3}}{3}", False),
    ("\\boxed{6-5i}", "6 - 5i", True),
    ("\\boxed{6+5i}", "6 - 5i", False),
    ("\\boxed{-2,1}", "1,-2", True),
    ("\\boxed{x = 1 \\text{ or } x = -2}", "1,-2", True),
    ("\\boxed{3, 5, \\text{ and } 7}", "3, 5, 7", True),
    ("\\boxed{x = 1 \\lor x = -2}", "1,-2", True),
    ("\\boxed{\\sqrt{3}$ then $\\sqrt{2}}", "\\sqrt{2}", False),
    ("\\boxed{3, 5}", "3, 5, 7", False),
    ("\\boxed{\\{3, 5, 7\\}}", "3, 5, 7", True),
    ("\\boxed{(3,4]}", "\\left(3, 4\\right]", True),
    ("\\boxed{[3,4)}", "(3,4]", False),
    ("\\boxed{(3,4)}", "(3,4]", False),
    ("\\boxed{(-\\infty, 2) \\cup (3, \\infty)}", "(-\\infty,2)\\cup(3,\\infty)", True),
    ("\\boxed{(-\\infty, 2] \\cup (3, \\infty)}", "(-\\infty,2)\\cup(3,\\infty)", False),
    ("\\boxed{[-2,7]}", "x \\in [-2,7]", True),
    (
        "\\boxed{\\begin{pmatrix} -2 \\\\ -14 \\\\ -7 \\end{pmatrix}}",
        "\\begin{pmatrix}-2\\\\-14\\\\-7\\end{pmatrix}",
        True,
    ),
    (
        "\\boxed{\\begin{bmatrix} 1 & 0 \\\\ 0 & 1 \\end{bmatrix}}",
        "\\begin{pmatrix} 1 & 0 \\\\ 0 & 1 \\end{pmatrix}",
        True,
    ),
    (
        "\\boxed{\\begin{pmatrix} 1 & 0 \\\\ 0 & 2 \\end{pmatrix}}",
        "\\begin{pmatrix} 1 & 0 \\\\ 0 & 1 \\end{pmatrix}",
        False,
    ),
    ("\\boxed{\\text{Evelyn}}", "Evelyn", True),
    ("\\boxed{Evelyn}", "\\text{Evelyn}", True),
    ("\\boxed{\\text{Evelyn or Carla}}", "\\text{Evelyn}", False),
    ("\\boxed{C}", "\\text{(C)}", True),
    ("\\boxed{\\text{B}}", "\\text{(C)}", False),
    ("\\boxed{52_{8}}", "52_8", True),
    ("\\boxed{52}", "52_8", False),
    ("\\boxed{1 \\pm \\sqrt{19}}", "1\\pm\\sqrt{19}", True),
    ("\\boxed{1 + \\sqrt{19}, 1 - \\sqrt{19}}", "1\\pm\\sqrt{19}", True),
    ("\\boxed{1 - \\sqrt{19}, 1 + \\sqrt{18}}", "1\\pm\\sqrt{19}", False),
    ("\\boxed{1 + \\sqrt{19}}", "1\\pm\\sqrt{19}", False),
    ("\\boxed{x = \\pm 2}", "-2, 2", True),
    ("\\boxed{2 \\text{ or } -2}", "\\pm 2", True),
    ("\\boxed{±2}", "\\pm 2", True),
    ("\\boxed{±2}", "2", False),
    ("\\boxed{2}", "\\pm 2", False),
    ("\\boxed{\\pm 2, 0}", "\\{-2, 0, 2\\}", True),
    ("\\boxed{\\pm 3}", "\\pm 2", False),
    ("\\boxed{x \\pm y}", "x+y, x-y", True),
    ("\\boxed{(\\pm 2, 1)}", "(\\pm 2, 1)", True),
    ("\\boxed{2^{n+1}}", "2^n + 1", False),
    ("\\boxed{\\sqrt{2x}}", "\\sqrt{2}x", False),
    ("\\boxed{\\frac{a}{b+c}}", "\\frac{a}{b} + c", False),
    ("\\boxed{\\frac{xy}{z}}", "\\frac{x}{yz}", False),
    ("\\boxed{\\sqrt{3}\\pi}", "\\sqrt{3\\pi}", False),
    ("\\boxed{e^2x}", "e^{2x}", False),
    ("\\boxed{x^{2}y}", "x^2y", True),
    ("\\boxed{\\frac x2}", "\\frac{x}{2}", True),
    ("\\boxed{{\\left( 3, \\frac{\\pi}{2} \\right)}}", "(3,\\frac{\\pi}{2})", True),
    ("\\boxed{{\\text{Evelyn}}}", "Evelyn", True),
    ("\\boxed{1A_{16}}", "1A_16", True),
    ("\\boxed{(b+2)(a+5)}", "(a+5)(b+2)", True),
    ("\\boxed{ab+2a+5b+10}", "(a+5)(b+2)", True),
    ("\\boxed{y = 2x+3}", "y = 2x + 3", True),
    ("\\boxed{y = 2x-3}", "y = 2x + 3", False),
    ("\\boxed{2k}", "2", False),
    ("\\boxed{90}", "90^\\circ", True),
    ("\\boxed{864 \\text{ in}^2}", "864 \\mbox{ inches}^2", True),
    ("\\boxed{5.4}", "5.4 \\text{ cents}", True),
    ("\\boxed{\\frac{270}{7}^\\circ}", "\\frac{270}7\\text{ degrees}", True),
    ("\\boxed{10080}", "10,\\!080", True),
    ("\\boxed{18\\pi}", "18 \\pi", True),
    ("\\boxed{2\\pi+18}", "18+2\\pi", True),
    ("\\boxed{\\cot x}", "\\cot x", True),
]


@pytest.mark.parametrize(("completion", "gold", "correct"), NUMBERS + PLACES + MATH)
def test_hard_string(completion: str, gold: str, correct: bool) -> None:
    verdict = grade(completion, gold)
    assert verdict.correct is correct, verdict
    assert (verdict.outcome == "correct") is correct


def test_the_table_is_long_enough() -> None:
    assert len(NUMBERS + PLACES + MATH) >= 120


@pytest.mark.parametrize(
    "completion", ["", "I do not know.", "\\boxed{}", "<think>maybe 18", "####", "\\boxed{18"]
)
def test_no_answer(completion: str) -> None:
    assert grade(completion, "18").outcome == "no_answer"


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        ("so we have \\boxed{18", "truncated"),
        ("\\boxed{17} but no, \\boxed{1", "wrong"),  # only what is written counts
        ("\\boxed{18}, \\boxed{18}, \\boxed{1", "correct"),  # a loop is graded alike wherever the limit falls
        ("The answer is 18. The answer is 1", "correct"),
        ("#### 18\nQuestion: what\n#### 1", "correct"),
        ("#### 18", "truncated"),  # may be the start of 180
        ("The answer is 18", "truncated"),
        ("and then 9 * 2 = 18", "truncated"),
        ("\\boxed{18} and so on and on", "correct"),
        ("#### 18\nQuestion: what", "correct"),
        ("The answer is 18. And", "correct"),
        ("\\boxed{17} and so on", "wrong"),
    ],
)
def test_a_truncated_completion_counts_only_what_is_surely_whole(completion: str, outcome: str) -> None:
    assert grade(completion, "18", truncated=True).outcome == outcome


@pytest.mark.parametrize(
    ("text", "answer"), [("18.00", "18"), ("\\$1{,}800", "1800"), ("\\frac{2}{8}", "0.25"), ("2/6", "1/3")]
)
def test_equal_numbers_are_extracted_in_one_form(text: str, answer: str) -> None:
    assert grade(f"\\boxed{{{text}}}", "1").answer == answer


def test_an_empty_gold_is_an_error() -> None:
    with pytest.raises(ValueError, match="is empty"):
        grade("\\boxed{1}", "so #### ")


@pytest.mark.parametrize(
    "completion",
    [
        "\\boxed{" * 50_000,
        "\\boxed{" * 50_000 + "}" * 50_000,
        "{" * 200_000 + "\\boxed{18}",
        "the answer is " * 50_000,
        "\\boxed{" + "9" * 100_000 + "}",
        "\\boxed{" + "(" * 300 + "1" + ")" * 300 + "}",
        "\\boxed{" + "\\frac{1}{" * 60 + "2" + "}" * 60 + "}",
        "\\boxed{9^{9^{9^{9^{9}}}}}",
        "\\boxed{1e999}",
        "\\boxed{100000000!!}",
        "\\boxed{" + "+".join(["x^{99}"] * 50) + "}",
        "1 " * 200_000,
        "#### " * 50_000,
        "$" * 100_000,
        "-" * 100_000,
    ],
)
def test_pathological_input_is_bounded(completion: str) -> None:
    grade("\\boxed{\\sqrt{4}}", "2")  # the child is up
    started = time.perf_counter()
    assert not grade(completion, "17").correct
    assert time.perf_counter() - started < 5
    assert grade("\\boxed{\\sqrt{9}}", "3").correct, "the grader lives on"


def test_works_in_many_threads_at_once() -> None:
    verdicts: list[bool] = []

    def work(number: int) -> None:
        verdicts.append(grade(f"\\boxed{{\\sqrt{{{number**2}}}}}", str(number)).correct)
        verdicts.append(not grade(f"\\boxed{{\\sqrt{{{number**2}}}}}", str(number + 1)).correct)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(101, 109)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [True] * 16


def test_a_child_that_does_not_answer_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert grade("\\boxed{\\sqrt{25}}", "5").correct
    child = grading_symbolic._child
    assert child is not None
    os.kill(child.process.pid, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(grading_symbolic, "STALL_SECONDS", 0.1)
        verdict = grade("\\boxed{\\sqrt{36}}", "6")
    assert verdict.outcome == "wrong" and verdict.undecided
    assert grade("\\boxed{\\sqrt{49}}", "7").correct


def test_the_child_ends_with_its_owner() -> None:
    program = (
        "from engine.grading import grade; from engine.grading import symbolic as s; import os\n"
        "assert grade('\\\\boxed{\\\\sqrt{16}}', '4').correct; print(s._child.process.pid, flush=True); os._exit(0)"
    )
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    status = Path(f"/proc/{int(done.stdout)}/stat")
    deadline = time.monotonic() + 10
    while status.exists() and status.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the child outlived its owner"
        threading.Event().wait(0.02)
