"""What users do to a live run: stop it, kill it, pause it, resume it twice at once, lose the terminal."""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.faults.faultkind import Fault
from tests.faults.not_possible import NotPossible
from tests.faults.subject import ROOT, Hang, Subject

_ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "mathrl_tui", *sys.argv[1:]])
"""


@contextmanager
def _give(subject: Subject, rng: random.Random, *, words: tuple[str, ...]) -> Iterator[str]:
    """Commands one after another, without waiting for what they bring about."""
    statuses = [subject.cli(word, subject.run_id).status for word in words]
    yield f"{', '.join(words)}: exit {statuses}"


@contextmanager
def _pause(subject: Subject, rng: random.Random) -> Iterator[str]:
    said = subject.cli("pause", subject.run_id)
    try:
        yield f"pause: exit {said.status}"
    finally:
        if subject.is_live():
            subject.cli("resume", subject.run_id)
        subject.touch()


@contextmanager
def _two_resumes(subject: Subject, rng: random.Random) -> Iterator[str]:
    """At most one of two `run --resume` at once may win, and exactly one supervisor may live."""
    arguments = ("run", "--resume", subject.run_id, "--detach")
    started = [subject.popen(*arguments) for _ in range(2)]
    try:
        statuses = [process.wait(150.0) for process in started]
    except subprocess.TimeoutExpired:
        raise Hang("one of two `run --resume` at once did not return") from None
    for process, status in zip(started, statuses, strict=True):
        subject.heard(arguments, status, process)
    alive = subject.processes("supervisor")
    if len(alive) > 1:
        subject.notes.append(f"DOUBLED: {len(alive)} supervisors live: {alive}")
    yield f"two resumes at once: exit {statuses}"


@contextmanager
def _terminal(subject: Subject, rng: random.Random, *, ending: str) -> Iterator[str]:
    """The run is resumed (or attached to) on a terminal that goes away, or where Ctrl-C is pressed."""
    live = subject.is_live()
    words = ["attach", subject.run_id] if live else ["run", "--resume", subject.run_id]
    screen, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 80))
    process = subprocess.Popen(
        [sys.executable, "-c", _ON_TERMINAL, *words],
        cwd=ROOT,
        env=subject.environment(),
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    seen = _read_until(screen, b"running", subject)
    closed = False
    if ending == "closed":
        os.close(screen)
        closed = True
    elif ending == "Ctrl-C, stop":
        os.write(screen, b"\x03")
        seen += _read_until(screen, b"stop the run", subject)
        os.write(screen, b"s\n")
    elif ending == "SIGKILL":
        process.send_signal(signal.SIGKILL)
    try:
        if not closed:
            _drain(screen, process)
            os.close(screen)
        process.wait(150.0)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Hang(f"`{' '.join(words)}` on a terminal did not end after: {ending}") from None
    if b"Traceback" in seen:
        subject.notes.append(f"UNNAMED: traceback on the terminal: {seen[-400:]!r}")
    yield f"{words[0]} on a terminal, {ending}"


def _read_until(screen: int, word: bytes, subject: Subject) -> bytes:
    import select
    import time

    seen, deadline = b"", time.monotonic() + 60.0
    while word not in seen and time.monotonic() < deadline:
        if select.select([screen], [], [], 0.5)[0]:
            try:
                part = os.read(screen, 65536)
            except OSError:  # EIO: the program has ended
                return seen
            if not part:
                return seen
            seen += part
        subject.journal.poll()
    return seen


def _drain(screen: int, process: subprocess.Popen[bytes]) -> None:
    """Read the terminal until its program has ended: one that is full would hold the program up."""
    import select
    import time

    deadline = time.monotonic() + 200.0
    while process.poll() is None and time.monotonic() < deadline:
        if select.select([screen], [], [], 0.1)[0]:
            try:
                os.read(screen, 65536)
            except OSError:
                return


@contextmanager
def _reports(subject: Subject, rng: random.Random) -> Iterator[str]:
    """Several readers at once beside the live run."""
    choice = [
        ("runs",),
        ("status", subject.run_id),
        ("export", subject.run_id, "--out", str(subject.folder / "ex")),
    ]
    choice += [
        ("sql", "select count(*) from scalar"),
        ("samples", f"{subject.run_id}/sft"),
        ("runs", "--json"),
    ]
    picked = rng.sample(choice, 3)
    started = [(arguments, subject.popen(*arguments)) for arguments in picked]
    for arguments, process in started:
        try:
            status = process.wait(150.0)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Hang(f"`{' '.join(arguments)}` beside others did not return") from None
        subject.heard(arguments, status, process)
    yield f"at once: {', '.join(arguments[0] for arguments in picked)}"


@contextmanager
def _new_stage(subject: Subject, rng: random.Random) -> Iterator[str]:
    """`run --resume` of a live run is refused and changes nothing."""
    if not subject.is_live():
        raise NotPossible("the run does not live")
    said = subject.cli("run", "--resume", subject.run_id, "--detach")
    yield f"resume of a live run: exit {said.status}"


def _fault(name: str, strike: object, **more: object) -> Fault:
    return Fault("commands", name, strike, **more)  # type: ignore[arg-type]


FAULTS = (
    *(
        _fault(", ".join(words), partial(_give, words=words))
        for words in (
            ("stop",),
            ("kill",),
            ("checkpoint",),
            ("stop", "kill"),
            ("stop", "stop"),
            ("kill", "kill"),
            ("checkpoint", "stop"),
            ("pause", "stop"),
            ("pause", "checkpoint", "resume"),
            ("pause", "kill"),
        )
    ),
    _fault("pause, resume", _pause, holds=4.0, weight=2.0),
    _fault("two resumes at once", _two_resumes, at_rest=True, weight=3.0),
    _fault("resume of a live run", _new_stage),
    _fault("reports at once", _reports),
    *(
        _fault(f"terminal: {ending}", partial(_terminal, ending=ending), at_rest=rest)
        for ending in ("closed", "Ctrl-C, stop", "SIGKILL")
        for rest in (True, False)
    ),
)
