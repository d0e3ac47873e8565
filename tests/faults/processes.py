"""Signals to the processes of a run: each, the group of each, all of them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.faults.faultkind import Fault, Strike
from tests.faults.machine import Proc
from tests.faults.not_possible import NotPossible
from tests.faults.subject import Subject

_DEADLY = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
_ROLES = ("supervisor", "trainer", "worker", "grader", "tracker", "everyone", "group of the trainer")
_STOPPED = ("supervisor", "trainer", "worker", "grader", "everyone")


@contextmanager
def _send(subject: Subject, rng: random.Random, *, role: str, name: str) -> Iterator[str]:
    number = signal.Signals[name]
    if role.startswith("group"):
        (leader,) = _targets(subject, rng, "trainer")[:1]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(os.getpgid(leader.pid), number)
        yield f"{name} to the group of {leader.pid}"
        return
    found = _targets(subject, rng, role)
    pause = rng.choice((0.0, 0.0, 0.003, 0.05))
    for each in found:
        each.signal(number)
        time.sleep(pause)
    yield f"{name} to {', '.join(f'{each.role} {each.pid}' for each in found)}"


@contextmanager
def _freeze(subject: Subject, rng: random.Random, *, role: str) -> Iterator[str]:
    found = _targets(subject, rng, role)
    for each in found:
        each.signal(signal.SIGSTOP)
    try:
        yield f"SIGSTOP to {', '.join(f'{each.role} {each.pid}' for each in found)}"
    finally:
        for each in found:
            each.signal(signal.SIGCONT)
        subject.touch()


@contextmanager
def _freeze_for_good(subject: Subject, rng: random.Random, *, role: str) -> Iterator[str]:
    """The user sees that nothing moves and kills the run by its command."""
    found = _targets(subject, rng, role)
    for each in found:
        each.signal(signal.SIGSTOP)
    said = subject.cli("kill", subject.run_id)
    subject.watch(lambda: False)
    left = [each for each in found if each.is_alive]
    if left:
        subject.notes.append(f"ORPHAN: after `kill`, alive: {left}")
        for each in left:
            each.signal(signal.SIGKILL)
    yield f"SIGSTOP to {', '.join(f'{each.role} {each.pid}' for each in found)}, then kill: exit {said.status}"


def _targets(subject: Subject, rng: random.Random, role: str) -> list[Proc]:
    found = subject.processes("" if role == "everyone" else role)
    if not found:
        raise NotPossible(f"no {role} lives")
    rng.shuffle(found)
    return found


def _fault(name: str, strike: Strike, **more: float) -> Fault:
    return Fault("processes", name, strike, **more)  # type: ignore[arg-type]


FAULTS = (
    *(
        _fault(
            f"{name} to the {role}",
            partial(_send, role=role, name=name),
            weight=2.0 if name == "SIGKILL" else 1.0,
        )
        for role in _ROLES
        for name in _DEADLY
    ),
    *(
        _fault(f"SIGSTOP, then SIGCONT to the {role}", partial(_freeze, role=role), holds=6.0)
        for role in _STOPPED
    ),
    *(_fault(f"SIGSTOP to the {role}, then kill", partial(_freeze_for_good, role=role)) for role in _STOPPED),
)
