"""The campaign: runs by number, some at once, each result one line of a file that a later call goes on with."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.experiment import prepare
from tests.faults.judge import PROMISED
from tests.faults.subject import ROOT
from tests.faults.summary import write_summary

RUN_SECONDS = 3600.0  # the bounds inside a run are tighter; this one is for a fault of the campaign itself
_NAMESPACES = (("unshare", "--mount"), ("unshare", "--user", "--map-root-user", "--mount"))


@dataclass(frozen=True, slots=True)
class Campaign:
    """What was asked for."""

    folder: Path
    seed: int
    families: tuple[str, ...]
    keep: bool = False
    _drivers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        return self.folder / f"results-{self.seed}.jsonl"

    def done(self) -> list[dict[str, Any]]:
        """Return the results that there are."""
        if not self.results.exists():
            return []
        return [json.loads(line) for line in self.results.read_text().splitlines() if line.strip()]

    def run(self, numbers: Sequence[int], jobs: int) -> list[dict[str, Any]]:
        """Do the runs of these numbers, `jobs` at once, and return their results."""
        self.folder.mkdir(parents=True, exist_ok=True)
        prepare(self.folder)
        namespace = _namespace()
        results: list[dict[str, Any]] = []
        with ThreadPoolExecutor(jobs) as pool:
            waiting: set[Future[dict[str, Any]]] = set()
            pending = list(numbers)
            try:
                while pending or waiting:
                    while pending and len(waiting) < jobs:
                        waiting.add(pool.submit(self._run_one, pending.pop(0), namespace))
                    ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for each in ended:
                        results.append(each.result())
                        self._keep(results[-1])
            except KeyboardInterrupt:
                # Each driver ends what it has started; its run is done again by the next call.
                for driver in self._drivers.values():
                    driver.send_signal(signal.SIGINT)
                print("stopped; the same command goes on", file=sys.stderr)
        return results

    def _run_one(self, number: int, namespace: tuple[str, ...]) -> dict[str, Any]:
        folder = self.folder / f"run-{self.seed}-{number:04}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        job = {
            "campaign": str(self.folder),
            "folder": str(folder / "run"),
            "result": str(folder / "result.json"),
            "seed": self.seed,
            "number": number,
            "families": list(self.families),
            "mounts": bool(namespace),
        }
        (folder / "job.json").write_text(json.dumps(job))
        command = [*namespace, sys.executable, "-m", "tests.faults.one_run", str(folder / "job.json")]
        began = time.monotonic()
        with (folder / "driver.log").open("wb") as log:
            driver = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            self._drivers[number] = driver
            try:
                driver.wait(RUN_SECONDS)
            except subprocess.TimeoutExpired:
                driver.send_signal(signal.SIGINT)
                driver.wait()
                log.write(b"the run did not end in time")
        path = folder / "result.json"
        if path.exists():
            result: dict[str, Any] = json.loads(path.read_text())
        else:
            why = (folder / "driver.log").read_text(errors="replace").strip().splitlines()[-1:]
            result = {
                "number": number,
                "seed": self.seed,
                "outcome": "BROKEN",
                "findings": [f"BROKEN: {why}"],
            }
            result |= {"faults": [], "resumes": 0, "seconds": round(time.monotonic() - began, 1)}
        if result["outcome"] in PROMISED and not self.keep:
            shutil.rmtree(folder, ignore_errors=True)
        return result

    def _keep(self, result: dict[str, Any]) -> None:
        with self.results.open("a") as file:
            file.write(json.dumps({name: value for name, value in result.items() if name != "said"}) + "\n")
        print(line(result), flush=True)
        write_summary(self.folder / f"summary-{self.seed}.md", self.done())


def line(result: dict[str, Any]) -> str:
    """Return a result as one line of text."""
    faults = ", ".join(fault["name"] for fault in result["faults"])
    worst = next((each for each in result["findings"] if each.startswith(result["outcome"])), "")
    shown = f"run {result['number']:4}  {result['outcome']:8} {result['seconds']:6.1f} s  [{faults}]"
    return f"{shown}  {worst}".rstrip()


def _namespace() -> tuple[str, ...]:
    """Return the command that gives a process its own mounts; () if nothing is permitted."""
    for command in _NAMESPACES:
        mount = [*command, "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
        if (
            shutil.which(command[0])
            and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        ):
            return command
    return ()
