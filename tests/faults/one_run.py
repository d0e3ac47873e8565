"""One run of the campaign, in a process (and, if permitted, mounts) of its own.

`python -m tests.faults.one_run JOB.json` writes the result to the file that the job names.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import disk, machine
from tests.faults.draw import END, NOW, Plan, Strike, draw
from tests.faults.experiment import SETTINGS, Reference
from tests.faults.judge import PROMISED, judge, outcome
from tests.faults.not_possible import NotPossible
from tests.faults.subject import Hang, Subject
from tests.faults.user import GivenUp, User

OVERLAP_SECONDS = 5.0  # that a lasting fault waits for the next one


@dataclass
class Holding:
    """Faults that last: each is undone when it is lifted."""

    stack: ExitStack = field(default_factory=ExitStack)
    count: int = 0

    def lift(self) -> bool:
        """Undo all. Return whether there were any."""
        held, self.count = self.count, 0
        self.stack.close()
        return held > 0


def run_one(subject: Subject, plan: Plan, reference: Reference) -> tuple[list[dict[str, str]], list[str]]:
    """Carry out the plan. Return the faults that were injected, and the findings."""
    done: list[dict[str, str]] = []
    holding = Holding()
    user = User(subject, holding.lift)
    given_up: GivenUp | None = None
    try:
        subject.start()
        for strike in plan.strikes:
            _wait(subject, user, strike, holding)
            _strike(subject, user, strike, holding, done)
            user.keep_going()
        holding.lift()
        user.finish()
    except GivenUp as end:
        given_up = end
    except Hang as hang:
        return done, _hang(subject, hang)
    finally:
        holding.lift()
    try:
        if subject.is_live():  # given up in the middle of a report
            subject.cli("kill", subject.run_id)
            subject.watch(lambda: False)
        return done, judge(subject, reference, given_up)
    except Hang as hang:
        return done, _hang(subject, hang)


def _hang(subject: Subject, hang: Hang) -> list[str]:
    """Return the finding, with the stacks of what hangs in a file of the run's folder."""
    (subject.folder / "stacks.txt").write_text(machine.stacks(subject.processes()))
    return [f"HANG: {hang}", *subject.notes]


def _wait(subject: Subject, user: User, strike: Strike, holding: Holding) -> None:
    """Wait for the strike's instant; resume the run on the way if it has to be."""
    if holding.count and strike.instant.stage != NOW:
        # What holds may be what keeps the run from getting there: a stopped process, a full disk.
        subject.watch(lambda: strike.instant.reached(subject.journal), seconds=OVERLAP_SECONDS)
        if not strike.instant.reached(subject.journal):
            holding.lift()
    if strike.instant.stage == END:
        return user.finish()
    if strike.instant.stage != NOW:
        while not subject.watch(lambda: strike.instant.reached(subject.journal)):
            if not user.keep_going():
                return None  # it is done
    return time.sleep(strike.instant.delay)


def _strike(
    subject: Subject, user: User, strike: Strike, holding: Holding, done: list[dict[str, str]]
) -> None:
    """Do the first of the strike's faults that is possible now, hold it, and undo it or leave it for the next."""
    for fault in strike.choices:
        rng = random.Random(strike.seed)
        way = ""
        if fault.family in ("contents", "copies"):
            holding.lift()  # they write to the home themselves
        if fault.at_rest:
            way = subject.rest(rng)
        entry = ExitStack()
        try:
            did = entry.enter_context(fault.strike(subject, rng))
        except NotPossible:
            continue
        done.append({"family": fault.family, "name": fault.name, "at": str(strike.instant), "did": did})
        if way:
            done[-1]["rest"] = way
        holding.stack.push(entry)
        holding.count += fault.holds > 0
        if not (strike.overlaps and fault.holds):
            subject.watch(lambda: False, seconds=strike.hold * fault.holds)
            holding.lift()
        return


def main(path: str) -> int:
    """Read the job, do it, write the result."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    job: dict[str, Any] = json.loads(Path(path).read_text())
    folder, campaign = Path(job["folder"]), Path(job["campaign"])
    reference = Reference.load(campaign / "reference.json")
    plan = draw(job["seed"], job["number"], reference.spans, job["families"], job["mounts"])
    began = time.monotonic()
    token = f"{job['seed']}-{job['number']}-{time.time_ns()}"
    subject = Subject(
        folder, campaign / "inputs" / "seconds.toml", SETTINGS, token, with_clock=plan.needs_clock
    )
    if job["mounts"]:
        subject.with_mounts = disk.mount_tmpfs(disk.SHARED_MEMORY, disk.SHARED_MEMORY_MIB)
        if plan.needs_mounts:
            disk.mount_tmpfs(subject.disk, disk.HOME_MIB)
    kept = "." if plan.warm else "model_check"
    shutil.copytree(campaign / "undisturbed" / "cache" / kept, subject.home / "cache" / kept)
    subject.home.chmod(0o700)
    try:
        faults, findings = run_one(subject, plan, reference)
    finally:
        subject.close()
    found = outcome(findings)
    if found not in PROMISED:
        shutil.copytree(
            subject.disk, folder / "evidence", symlinks=True, ignore=shutil.ignore_patterns("*.sock")
        )
    result = {
        "number": job["number"],
        "seed": job["seed"],
        "outcome": found,
        "findings": findings,
        "faults": faults,
        "resumes": subject.resumes,
        "seconds": round(time.monotonic() - began, 1),
        "said": [str(said) for said in subject.said],
    }
    Path(job["result"]).write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
