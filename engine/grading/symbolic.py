"""Exact comparison of formulas behind a deadline, in a child process.

sympy can take for ever, inside C code too, and signals reach only a main thread. So each process has one child that
answers one question at a time: `python -m engine.grading.symbolic` reads JSON lines and writes verdicts. It gives
up by itself after CPU_SECONDS of its own time, whatever else the machine does; a child that does not answer in time
is killed, the answer counts as wrong, and the next child starts at once. The child ends when its standard input
closes, so it never outlives its owner.
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
from typing import Any

ROW_SECONDS = 3.0  # for all questions of one row together
CPU_SECONDS = 1.5  # of the child, for one question
START_SECONDS = 60.0  # importing sympy on a busy machine
MEMORY_BYTES = 4 << 30  # address space of the child
_CACHED = 20_000

_row = threading.local()


@contextmanager
def one_row() -> Iterator[None]:
    """All questions asked inside share ROW_SECONDS; those that come later are answered with False."""
    _row.left = ROW_SECONDS
    try:
        yield
    finally:
        _row.left = None


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
            [sys.executable, "-m", "engine.grading.symbolic"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            text=True,
        )

    def line(self, seconds: float) -> str:
        """The child's next line, or "" if none comes within `seconds` or the child has ended."""
        assert self.process.stdout is not None
        ready = wait([self.process.stdout.fileno()], seconds)  # select() takes no descriptor above 1,023
        return self.process.stdout.readline() if ready else ""

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


_LOCK = threading.Lock()
_child: _Child | None = None


def _ask(question: list[Any]) -> bool:
    global _child
    left = getattr(_row, "left", None)
    if left is not None and left <= 0:
        raise TimeoutError
    child = _started()
    assert child.process.stdin is not None
    began = time.monotonic()
    try:
        child.process.stdin.write(json.dumps(question) + "\n")
        child.process.stdin.flush()
        verdict = child.line(ROW_SECONDS if left is None else left)
    except BrokenPipeError:
        verdict = ""
    if left is not None:
        _row.left = left - (time.monotonic() - began)
    if not verdict:
        child.close()
        _child = _Child()  # starts while the next rows are read
    if verdict.strip() not in ("true", "false"):
        raise TimeoutError
    return verdict.strip() == "true"


def _started() -> _Child:
    """The child, ready for a question."""
    global _child
    if _child is None or _child.owner != os.getpid():
        _child = _Child()
    if not _child.ready:
        if not _child.line(START_SECONDS):
            _child.close()
            _child = None
            raise RuntimeError(
                "grader: sympy did not start; run `mathrl-tui doctor`, or reinstall math-verify"
            )
        _child.ready = True
    return _child


def _serve() -> None:
    """The child: one JSON line [question, answer, gold] in, `true`, `false` or `null` out, until its input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.set_int_max_str_digits(0)  # `_magnitude` bounds them
    from engine.grading import exact

    signal.signal(signal.SIGPROF, _out_of_time)
    print("ready", flush=True)
    for line in sys.stdin:
        question, answer, gold = json.loads(line)
        print(json.dumps(_bounded(getattr(exact, question), answer, gold)), flush=True)


def _out_of_time(*_: object) -> None:
    raise TimeoutError


def _bounded(compare: Callable[[Any, Any], bool], answer: Any, gold: Any) -> bool | None:
    """The verdict, or None if it took CPU_SECONDS, too much memory or a stack that is too deep."""
    try:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS, CPU_SECONDS)
        return compare(answer, gold)
    except (TimeoutError, MemoryError, RecursionError):
        return None
    # The parser raises bare Exceptions for text without meaning, and sympy whatever its rules run into.
    except Exception:  # noqa: BLE001
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    _serve()
