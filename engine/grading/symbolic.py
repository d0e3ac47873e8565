"""math-verify behind a deadline: symbolic equality of two answers in a child process.

sympy can take for ever, inside C code too, and math-verify's own time-outs use signals, which only a main thread
may. So one child process a process answers one question at a time: `python -m engine.grading.symbolic` reads JSON
lines and writes verdicts; a child that does not answer in time is killed, the answer counts as wrong, and the next
question starts another. The child ends when its standard input closes, so it never outlives its owner.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from multiprocessing.connection import wait

DEADLINE_SECONDS = 4.0
START_SECONDS = 60.0  # importing sympy on a busy machine
MEMORY_BYTES = 4 << 30  # address space of the child
_PARSE_SECONDS = 2  # math-verify's own limit, a whole number


def equal(answer: str, gold: str) -> bool:
    """Whether math-verify takes `answer` for `gold`; False where it cannot say within the deadline.

    Safe from any thread; threads take turns.
    """
    with _LOCK:
        return _ask(answer, gold)


class _Child:
    """The process that answers. `owner` tells a forked copy that this child is not its own."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine.grading.symbolic"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            text=True,
        )

    def line(self, seconds: float) -> str:
        """The child's next line, or "" where none comes within `seconds` or the child has ended."""
        assert self.process.stdout is not None
        ready = wait([self.process.stdout.fileno()], seconds)  # select() takes no descriptor above 1,023
        return self.process.stdout.readline() if ready else ""

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


_LOCK = threading.Lock()
_child: _Child | None = None


def _ask(answer: str, gold: str) -> bool:
    global _child
    if _child is None or _child.owner != os.getpid():
        _child = _Child()
        if not _child.line(START_SECONDS):
            _child.close()
            _child = None
            raise RuntimeError(
                "grader: math-verify did not start; run `mathrl-tui doctor`, or reinstall math-verify"
            )
    assert _child.process.stdin is not None
    try:
        _child.process.stdin.write(json.dumps([answer, gold]) + "\n")
        _child.process.stdin.flush()
        verdict = _child.line(DEADLINE_SECONDS)
    except BrokenPipeError:
        verdict = ""
    if not verdict:
        _child.close()
        _child = None
    return verdict.strip() == "true"


def _serve() -> None:
    """The child: one JSON line [answer, gold] in, `true` or `false` out, until its input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from math_verify import parse, verify

    print("ready", flush=True)
    for line in sys.stdin:
        answer, gold = (
            parse(f"${text}$", parsing_timeout=_PARSE_SECONDS, fallback_mode="no_fallback")
            for text in json.loads(line)
        )
        verdict = bool(answer and gold) and verify(gold, answer, timeout_seconds=_PARSE_SECONDS)
        print(json.dumps(bool(verdict)), flush=True)


if __name__ == "__main__":
    _serve()
