"""Exact comparison of formulas under a deadline, in a child process.

    owner ── [seconds, question, answer, gold] ─▶ child (sympy)
    owner ◀─ [verdict or null, seconds used] ──── child

sympy may run forever, also inside C code, and signals reach only a main thread. So each process has one
child, which answers one question at a time over two pipes. Deadlines count the child's own CPU time, so a
busy machine does not change a verdict.
A question without an answer counts as not equal and is reported as undecided. It is asked again the next
time.
The child imports the same files as its owner, whatever the working directory contains. It exits when its
standard input closes.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil

from store import isolated

# CPU time of the child for all questions of one row.
ROW_SECONDS = 1.5
# CPU time of the child for one question.
QUESTION_SECONDS = 1.0
# CPU time beyond its deadline after which a child that is stuck in C code is killed.
GRACE_SECONDS = 0.5
# Wall time without an answer, for a child that uses no CPU time.
STALL_SECONDS = 300.0
# Wall time to import sympy on a busy machine.
START_SECONDS = 120.0
# Address space of the child.
MEMORY_BYTES = 4 << 30
_CACHED = 20_000
# Wall time between two checks of a child's CPU time.
_LOOK_SECONDS = 0.2
_WARM_UP = (
    ("\\sqrt{8}+\\frac{1}{2}", "2\\sqrt{2}+0.5"),
    ("(x+1)^2", "x^2+2x+1"),
    ("\\sin 30^\\circ", "\\log_4 2"),
)


class RowBudget:
    """Remaining CPU time of one row's questions, and whether one is undecided."""

    def __init__(self) -> None:
        self.left = ROW_SECONDS
        self.undecided = False


_row = threading.local()


@contextmanager
def one_row() -> Iterator[RowBudget]:
    """Let all comparisons in the block share ROW_SECONDS of CPU time.

    Comparisons after that are undecided and return False. Yields the budget, which records whether one was
    undecided.
    """
    _row.now = row = RowBudget()
    try:
        yield row
    finally:
        _row.now = None


def equal(answer: str, gold: str) -> bool:
    """Return True if two formulas have the same value.

    It returns False if the deadline passes first. Any thread may call it; threads take turns.
    """
    return _verdict("equal", answer, gold)


def rounds_to(formula: str, decimal: str) -> bool:
    """Return True if `decimal` is the irrational value of `formula`.

    Six decimals count.
    """
    return _verdict("rounds_to", formula, decimal)


def same_equation(answer: tuple[str, str], gold: tuple[str, str]) -> bool:
    """Return True if two equations, each as its two sides, are equivalent."""
    return _verdict("same_equation", answer, gold)


def same_region(answer: tuple[Any, ...], gold: tuple[Any, ...]) -> bool:
    """Return True if two unions of intersections are the same set.

    Their members are `intervals.Piece`.
    """
    return _verdict("same_region", answer, gold)


def _verdict(question: str, answer: Any, gold: Any) -> bool:
    try:
        return _decided(question, answer, gold)
    except TimeoutError:
        if row := getattr(_row, "now", None):
            row.undecided = True
        return False


@lru_cache(_CACHED)
def _decided(question: str, answer: Any, gold: Any) -> bool:
    """Return the child's verdict.

    Raises: TimeoutError if the deadline passes; this is not cached.
    """
    with _LOCK:
        return _ask([question, answer, gold])


class _Child:
    """The process that answers.

    `owner` shows a forked copy that the child belongs to its parent.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.ready = False
        self.process = subprocess.Popen(
            isolated.command("engine.grading.symbolic"),
            # Read nothing ahead, so that `wait` sees every line.
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=isolated.environment(),
        )

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        data = memoryview(line.encode() + b"\n")
        while data:
            data = data[self.process.stdin.write(data) :]

    def line(self, seconds: float) -> str:
        """Return the child's next line.

        It is "" if none arrives within `seconds` of wall time, or if the child has exited.
        """
        assert self.process.stdout is not None
        # select() accepts no descriptor above 1,023.
        ready = wait([self.process.stdout.fileno()], seconds)
        return self.process.stdout.readline().decode() if ready else ""

    def answer(self, cpu_seconds: float) -> str:
        """Return the child's next line.

        It is "" if the child used more than `cpu_seconds` or has exited.
        """
        deadline = time.monotonic() + STALL_SECONDS
        allowed = None
        while time.monotonic() < deadline:
            if line := self.line(_LOOK_SECONDS):
                return line
            try:
                times = psutil.Process(self.process.pid).cpu_times()
            except psutil.Error:
                return ""
            if self.process.poll() is not None:
                return ""
            used = times.user + times.system
            allowed = used + cpu_seconds if allowed is None else allowed
            if used > allowed:
                return ""
        return ""

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


_LOCK = threading.Lock()
_child: _Child | None = None


def _forget() -> None:
    """Drop the child and the lock in a forked copy.

    They belong to the parent process.
    """
    global _LOCK, _child
    _LOCK = threading.Lock()
    _child = None


os.register_at_fork(after_in_child=_forget)


def _ask(question: list[Any]) -> bool:
    global _child
    row: RowBudget | None = getattr(_row, "now", None)
    seconds = min(QUESTION_SECONDS, row.left if row else QUESTION_SECONDS)
    if seconds <= 0:
        raise TimeoutError
    child = _started()
    line = ""
    try:
        child.send(json.dumps([seconds, *question]))
        line = child.answer(seconds + GRACE_SECONDS)
    except BrokenPipeError:
        pass
    # After an interrupt too: its answer would be taken for the next question's.
    finally:
        if not line:
            child.close()
            _child = None
    verdict, used = json.loads(line) if line else (None, seconds)
    if row:
        row.left -= used
    if line == "":
        # It starts while the next rows are read.
        _child = _Child()
    if verdict is None:
        raise TimeoutError
    return bool(verdict)


def _started() -> _Child:
    """Return the child, ready for a question."""
    global _child
    if _child is None or _child.owner != os.getpid():
        _child = _Child()
    if not _child.ready:
        line = _child.line(START_SECONDS)
        if line.strip() != _identity():
            _child.close()
            _child = None
            found = f"came from {line.strip()}, not from {_identity()}" if line else "did not start"
            raise RuntimeError(
                f"grader: the process that compares formulas {found}; run `mathrl-tui doctor`, or reinstall"
            )
        _child.ready = True
    return _child


def _identity() -> str:
    """Return the file of this module and the interpreter.

    They are the same in a child and its owner.
    """
    return json.dumps([str(Path(__file__).resolve()), sys.version])


def _serve() -> None:
    """Run the child process.

    It reads one JSON line [seconds, question, answer, gold] and writes [verdict or null, seconds used].
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The owner decides when this process exits. A question that a dying child leaves open would count as a
    # wrong answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # `_magnitude` bounds the digits.
    sys.set_int_max_str_digits(0)
    answers = os.fdopen(os.dup(1), "w")
    # Output that a library prints is not a verdict.
    os.dup2(2, 1)
    from engine.grading import exact

    # The parser builds its tables once; no question should pay for it.
    for pair in _WARM_UP:
        exact.equal(*pair)
    signal.signal(signal.SIGPROF, _out_of_time)
    print(_identity(), file=answers, flush=True)
    for line in sys.stdin:
        seconds, question, answer, gold = json.loads(line)
        began = time.process_time()
        verdict = _bounded(seconds, getattr(exact, question), answer, gold)
        print(json.dumps([verdict, time.process_time() - began]), file=answers, flush=True)


class _OutOfTime(BaseException):
    """The question's CPU time is used up.

    It is not an Exception: a library that catches those would continue with half a result.
    """


def _out_of_time(*_: object) -> None:
    raise _OutOfTime


def _bounded(seconds: float, compare: Callable[[Any, Any], bool], answer: Any, gold: Any) -> bool | None:
    """Return the verdict.

    Return None if it took `seconds`, too much memory or too deep a stack.
    """
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
        return compare(answer, gold)
    except (_OutOfTime, MemoryError, RecursionError):
        _forget_halves()
        return None
    # The parser raises bare Exceptions for text without meaning, and sympy raises what its rules run into.
    except Exception:  # noqa: BLE001
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _forget_halves() -> None:
    """Drop cached expressions: an interrupted one may be incomplete."""
    from sympy.core.cache import clear_cache

    from engine.grading import formula

    formula.parse.cache_clear()
    clear_cache()


if __name__ == "__main__":
    _serve()
