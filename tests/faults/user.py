"""What a user does when a run has ended early: resume it, follow the remedy that the program prints, give up."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.subject import Said, Subject, paths_in

_PASSES = re.compile(r"again|make room|full|busy|wait|held|in use", re.IGNORECASE)
_COMMANDS = {"kill", "stop", "doctor", "gc", "rm", "runs", "status"}
MOST_RESUMES = 30


class GivenUp(Exception):
    """The run cannot go on, and this is what the user was shown last."""

    def __init__(self, said: Said, remedy_failed: bool = False) -> None:
        super().__init__(str(said))
        self.said = said
        self.remedy_failed = remedy_failed


@dataclass
class User:
    """Keeps one run going. `lift` undoes faults that still hold; it returns whether there were any."""

    subject: Subject
    lift: Callable[[], bool]
    failures: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)

    def state(self) -> tuple[str, str]:
        """Return the run's state and reason as `status` shows them."""
        said = self.subject.cli("status", self.subject.run_id, "--json")
        if said.status:
            if self.lift():
                return self.state()
            raise GivenUp(said)
        shown = json.loads(said.stdout)
        return shown["state"], shown.get("reason") or ""

    def keep_going(self) -> bool:
        """Resume a run that has ended before it was done. Return whether it lives."""
        if self.subject.is_live():
            return True
        self.subject.quiet()
        state, reason = self.state()
        if state == "done":
            return False
        if self.subject.resumes > MOST_RESUMES:
            raise GivenUp(self.subject.said[-1], remedy_failed=True)
        if state in ("failed", "done_with_failures"):
            self.failures[reason] += 1
            if self.failures[reason] > 1:
                return self._last_try(reason)
        self._resume()
        return True

    def finish(self) -> None:
        """Bring the run to its end."""
        while self.keep_going():
            self.subject.watch(lambda: False)

    def _last_try(self, reason: str) -> bool:
        """The same failure came again: watch one resume in the foreground, whose last line is what a user reads."""
        lifted = self.lift()
        said = self.subject.cli("run", "--resume", self.subject.run_id, seconds=900.0)
        self.subject.resumes += 1
        if said.status and not lifted and not self._follow(said):
            # Where the only remedy is the resume that has just failed again, it is none.
            commands = re.findall(r"`mathrl-tui ([^`]+)`", said.last_line)
            raise GivenUp(said, remedy_failed=commands == [f"run --resume {self.subject.run_id}"])
        if said.status and self.failures[reason] > 4:
            raise GivenUp(said, remedy_failed=True)
        return True

    def _resume(self) -> None:
        """Resume; follow remedies until a supervisor holds the run."""
        while True:
            said = self.subject.resume()
            if said.status == 0 or self.subject.is_live():
                return
            self.refusals[said.last_line] += 1
            if not self.lift() and not self._follow(said):
                raise GivenUp(said)
            if self.refusals[said.last_line] > 2:
                raise GivenUp(said, remedy_failed=True)

    def _follow(self, said: Said) -> bool:
        """Do what the last line says. Return whether it named something that a user can do now."""
        line, home = said.last_line, self.subject.home
        for words in re.findall(r"`mathrl-tui ([^`]+)`", line):
            arguments = tuple(shlex.split(words))
            if arguments[0] in _COMMANDS:
                self.subject.cli(*arguments)
                return True
        if re.search(r"\b(delete|remove|move)\b", line):
            for path in paths_in(line):
                if path.exists() and path.is_relative_to(home) and path != home:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                    return True
        return bool(_PASSES.search(line)) and self.refusals[line] < 2
