"""Homes with runs that nobody trained: journals written as a supervisor writes them, for tests of what reads them."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from store.home import RunFolder
from store.journal import JournalWriter
from store.records import Event, Example, Record, RunRow, Scalar

ARMS = (("base", "pretrain", ""), ("sft", "sft", "base"), ("grpo", "grpo", "base"))
PLAN = (("data", ""), ("pretrain", "base"), ("sft", "sft"), ("grpo", "grpo"), ("eval", ""))
TASK = "word-problems"
QUESTIONS = 40
LONG_AGO = 1_700_000_000.0  # when a run was made where nothing else is said
# how many of the questions each arm answers rightly: the first so many, so that every flip is known
RIGHT = {"base": 8, "sft": 24, "grpo": 23}


def config(
    run_id: str, created: float, plan: Sequence[tuple[str, str]] = PLAN, seed: int = 0
) -> dict[str, Any]:
    """A run.json as engine.startup.launch freezes it, as far as readers look."""
    return {
        "run": run_id,
        "name": run_id,
        "seed": seed,
        "created": created,
        "stages": [stage for stage, _ in plan],
        "plan": [{"stage": stage, "arm": arm} for stage, arm in plan],
        "profile": {
            "name": "demo",
            "arms": [{"name": name, "stage": stage, "parent": parent} for name, stage, parent in ARMS],
            "preprocess": {"template": "plain"},
            "eval": {
                "confidence": 0.95,
                "resamples": 2000,
                "suite": ["mmlu", "arc", "wikitext"],
                "margin": 0.02,
            },
        },
    }


class FabricatedRun:
    """One run's journal, with a clock of its own that `passes` moves; `lock` makes it live, `unlock` orphans it."""

    def __init__(
        self,
        home: Path,
        run_id: str,
        created: float = LONG_AGO,
        seed: int = 0,
        changed: Mapping[str, Any] | None = None,
        frozen: Mapping[str, Any] | None = None,
    ) -> None:
        """`changed`: sections of the profile that are set otherwise; `frozen`: further keys of run.json."""
        self.folder = RunFolder(home, run_id)
        self.folder.logs.mkdir(parents=True)
        whole = config(run_id, created, seed=seed) | dict(frozen or {})
        whole["profile"] |= changed or {}
        self.folder.config.write_text(json.dumps(whole))
        self.now = created
        self._journal = JournalWriter(self.folder.journal)
        self._lock: int | None = None
        self.write(RunRow(run_id, "demo", seed, whole, self.now))

    @classmethod
    def reopened(cls, home: Path, run_id: str) -> FabricatedRun:
        """Return a run that exists, to write more of its journal."""
        run = cls.__new__(cls)
        run.folder = RunFolder(home, run_id)
        run.now = time.time()
        run._journal = JournalWriter(run.folder.journal)
        run._lock = None
        return run

    def close(self) -> None:
        """Close the journal, so that another process can write it."""
        self._journal.close()

    def passes(self, seconds: float) -> None:
        """Moves the clock."""
        self.now += seconds

    def write(self, *records: Record) -> None:
        """Journals one batch."""
        self._journal.append(records)

    def event(self, kind: str, message: str = "", stage: str = "", arm: str = "", **payload: Any) -> Event:
        """An event at this moment."""
        return Event(kind, message, stage, arm, -1, payload, self.now)

    def scalar(self, metric: str, step: int, value: float) -> Scalar:
        """A point at this moment."""
        return Scalar(metric, step, value, self.now)

    def lock(self) -> None:
        """Holds the run as a living supervisor does."""
        self._lock = os.open(self.folder.path / "run.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def unlock(self) -> None:
        """Lets the run go as a dead supervisor does."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def stage(self, stage: str, arm: str = "", seconds: float = 2.0) -> None:
        """A stage that starts and ends."""
        self.write(self.event("stage", "", stage, arm, status="started"))
        self.passes(seconds)
        self.write(self.event("stage", "", stage, arm, status="finished"))

    def train(self, stage: str, arm: str, steps: int, of: int = 0) -> None:
        """`steps` steps of `of` (0: all of them, and the stage ends), a second each; loss is 1 / step."""
        self.write(self.event("stage", "", stage, arm, status="started"))
        for step in range(1, steps + 1):
            self.passes(1.0)
            self.write(
                self.scalar(f"{arm}/train/loss", step, 1.0 / step),
                self.scalar(f"{arm}/train/tokens", step, 100.0),
                self.scalar(f"{arm}/reward/mean", step, step / (of or steps)),
                self.event("progress", "", stage, arm, done=step, total=of or steps, unit="steps"),
            )
        if not of:
            self.write(self.event("stage", "", stage, arm, status="finished"))

    def evaluate(self) -> None:
        """Every arm answers QUESTIONS questions, the first RIGHT of them rightly, the last one cut off."""
        self.write(self.event("stage", "", "eval", status="started"))
        for arm, right in RIGHT.items():
            self.write(*(self.example(arm, index, index < right) for index in range(QUESTIONS)))
        self.write(self.event("stage", "", "eval", status="finished"))

    def example(self, arm: str, index: int, correct: bool) -> Example:
        """One graded completion; question 5 is about otters."""
        outcome = "correct" if correct else "truncated" if index == QUESTIONS - 1 else "wrong"
        about = "otters" if index == 5 else "apples"
        return Example(
            arm=arm,
            step=50,
            task=TASK,
            ex_id=f"test-{index}",
            sample=0,
            correct=correct,
            score=float(correct),
            outcome=outcome,
            prompt=f"Question: How many {about} are {index} and 1?",
            output=f"{index} + 1 = {index + 1 if correct else index} #### {index + 1 if correct else index}",
            tokens=12,
            gold=str(index + 1),
            answer=str(index + 1 if correct else index),
            ts=self.now,
        )


def finished_run(home: Path, run_id: str = "demo-s0-finished") -> FabricatedRun:
    """A run with every stage done."""
    run = FabricatedRun(home, run_id)
    run.write(run.event("state", state="running", reason=""))
    run.write(run.event("process", "", role="trainer", pid=1, alive=True, reason=""))
    run.stage("data")
    run.train("pretrain", "base", 30)
    run.train("sft", "sft", 20)
    run.train("grpo", "grpo", 10)
    run.evaluate()
    run.write(run.event("log", "one row was too long", "eval", level="warning", process="trainer"))
    run.write(run.event("state", state="done", reason=""))
    (run.folder.logs / "trainer.log").write_text("loading\nstep 1\nstep 2: warning: slow disk\n")
    return run


def live_run(home: Path, run_id: str = "demo-s1-live", ago: float = 60.0) -> FabricatedRun:
    """A run made `ago` seconds ago whose supervisor lives: after 44 seconds at step 12 of 40 of its arm sft."""
    run = FabricatedRun(home, run_id, created=time.time() - ago)
    run.lock()
    run.write(run.event("state", state="running", reason=""))
    run.write(run.event("process", "", role="trainer", pid=os.getpid(), alive=True, reason=""))
    run.stage("data")
    run.train("pretrain", "base", 30)
    run.train("sft", "sft", 12, of=40)
    run.write(run.scalar("gpu/0/utilisation", 1, 87.0), run.scalar("gpu/0/memory_gib", 1, 41.5))
    return run
