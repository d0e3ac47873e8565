"""Exact comparison of formulas behind a deadline, in a child process.

sympy can take for ever, inside C code too, and signals reach only a main thread. So each process has one child that
answers one question at a time over two pipes. Deadlines count the child's own CPU time, so that a busy machine does
not change a verdict. A question without an answer counts as not equal, is reported as undecided and is asked anew
the next time. The child imports the same files as its owner, whatever lies in the working directory, and ends when
its standard input closes.
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

ROW_SECONDS = 1.5  # CPU time of the child for all questions of one row
QUESTION_SECONDS = 1.0  # CPU time of the child for one question
GRACE_SECONDS = 0.5  # CPU time beyond its deadline after which a child that is stuck in C code is killed
STALL_SECONDS = 300.0  # wall time without an answer, for a child that uses no CPU time
START_SECONDS = 120.0  # wall time to import sympy on a busy machine
MEMORY_BYTES = 4 << 30  # address space of the child
_CACHED = 20_000
_LOOK_SECONDS = 0.2  # wall time between two looks at a child's CPU time
_WARM_UP = (
    ("\\sqrt{8}+\\frac{1}{2}", "2\\sqrt{2}+0.5"),
    ("(x+1)^2", "x^2+2x+1"),
    ("\\sin 30^\\circ", "\\log_4 2"),
)


class Row:
    """What the questions of one row share: CPU time that is left, and whether one was not decided."""

    def __init__(self) -> None:
        self.left = ROW_SECONDS
        self.undecided = False


_row = threading.local()


@contextmanager
def one_row() -> Iterator[Row]:
    """All questions asked inside share ROW_SECONDS; those that come later are answered with False."""
    _row.now = row = Row()
    try:
        yield row
    finally:
        _row.now = None


def equal(answer: str, gold: str) -> bool:
    """Whether two formulas have the same value; False if that cannot be decided within the deadline.

    Safe from any thread; threads take turns.
    """
    return _verdict("equal", answer, gold)


def rounds_to(formula: str, decimal: str) -> bool:
    """Whether the irrational value of `formula` is `decimal` to six decimals."""
    return _verdict("rounds_to", formula, decimal)


def same_equation(answer: tuple[str, str], gold: tuple[str, str]) -> bool:
    """Whether two equations, each as its two sides, say the same."""
    return _verdict("same_equation", answer, gold)


def same_region(answer: tuple[Any, ...], gold: tuple[Any, ...]) -> bool:
    """Whether two unions of intersections of `intervals.Piece` are one set."""
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
    """The child's verdict. Raises: TimeoutError if there is none; that is not remembered."""
    with _LOCK:
        return _ask([question, answer, gold])


class _Child:
    """The process that answers. `owner` tells a forked copy that this child is not its own."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.ready = False
        self.process = subprocess.Popen(
            isolated.command("engine.grading.symbolic"),
            bufsize=0,  # nothing is read ahead, so that `wait` sees every line
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
        """The child's next line, or "" if none comes within `seconds` of wall time or the child has ended."""
        assert self.process.stdout is not None
        ready = wait([self.process.stdout.fileno()], seconds)  # select() takes no descriptor above 1,023
        return self.process.stdout.readline().decode() if ready else ""

    def answer(self, cpu_seconds: float) -> str:
        """The child's next line, or "" if it has used more than `cpu_seconds` or has ended."""
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
    """In a forked copy: its owner's child and lock are not its own."""
    global _LOCK, _child
    _LOCK = threading.Lock()
    _child = None


os.register_at_fork(after_in_child=_forget)


def _ask(question: list[Any]) -> bool:
    global _child
    row: Row | None = getattr(_row, "now", None)
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
    finally:  # also after an interrupt: its answer would be taken for the next one's
        if not line:
            child.close()
            _child = None
    verdict, used = json.loads(line) if line else (None, seconds)
    if row:
        row.left -= used
    if line == "":
        _child = _Child()  # starts while the next rows are read
    if verdict is None:
        raise TimeoutError
    return bool(verdict)


def _started() -> _Child:
    """The child, ready for a question."""
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
    """The file that this is and the interpreter that runs it: the same in a child and its owner."""
    return json.dumps([str(Path(__file__).resolve()), sys.version])


def _serve() -> None:
    """The child: one JSON line [seconds, question, answer, gold] in, [verdict or null, seconds used] out."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The owner decides when this ends: a question that a dying child leaves open would count as a wrong answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.set_int_max_str_digits(0)  # `_magnitude` bounds them
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no verdict
    from engine.grading import exact

    for pair in _WARM_UP:  # the parser builds its tables once; no question should pay for it
        exact.equal(*pair)
    signal.signal(signal.SIGPROF, _out_of_time)
    print(_identity(), file=answers, flush=True)
    for line in sys.stdin:
        seconds, question, answer, gold = json.loads(line)
        began = time.process_time()
        verdict = _bounded(seconds, getattr(exact, question), answer, gold)
        print(json.dumps([verdict, time.process_time() - began]), file=answers, flush=True)


class _OutOfTime(BaseException):
    """No Exception: a library that catches those would go on with half a result."""


def _out_of_time(*_: object) -> None:
    raise _OutOfTime


def _bounded(seconds: float, compare: Callable[[Any, Any], bool], answer: Any, gold: Any) -> bool | None:
    """The verdict, or None if it took `seconds`, too much memory or a stack that is too deep."""
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
        return compare(answer, gold)
    except (_OutOfTime, MemoryError, RecursionError):
        _forget_halves()
        return None
    # The parser raises bare Exceptions for text without meaning, and sympy whatever its rules run into.
    except Exception:  # noqa: BLE001
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _forget_halves() -> None:
    """Drop cached expressions: an interrupted one may hold assumptions that were never worked out."""
    from sympy.core.cache import clear_cache

    from engine.grading import formula

    formula.parse.cache_clear()
    clear_cache()


if __name__ == "__main__":
    _serve()
