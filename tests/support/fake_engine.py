"""A trainer and a worker with nothing to train: what the supervisor starts in its tests, for real.

The trainer walks STEPS steps; each asks the worker for two completions, folds them into a chain of hashes, and records
a scalar, an example and an event. It checkpoints every few steps and goes on from there, so that the values of an
undisturbed run can be told in advance (`expected_values`). The run folder holds what a test wants otherwise:

    steps            how many steps (default 60)
    hold-NAME        the step waits while this file is there (`hold-trainer`, `hold-worker`)
    hold-save        a checkpoint that was ordered waits while this file is there
    hold-leave       the trainer waits with its end while this file is there
    crash            the trainer raises at its next step, and the file is gone
    crash-ROLE       that process raises whenever it comes to a step
    helpers          the worker starts a process in a session of its own and writes its pid here
    fail             the trainer returns 1 after an event that says why
    incomplete       the trainer goes to its end, and returns there that parts of a stage failed
    nan-at           the gradient norm of this step is NaN
    trained-after    from this step on nothing trains any more (default: never)
    for-the-end      the worker leaves something for its end: a temporary folder in the run folder, a line in C's stdout

The worker's first record says whether it was started beside an idle trainer.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import subprocess
import sys
import threading
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engine.context import StopRequested
from engine.ipc.channels import ChannelClosed
from engine.ipc.child import TrainerChild, WorkerChild
from engine.ipc.orders import INCOMPLETE, REOPENED
from engine.protocol.messages import Completion, Job, JobDone, Prompt, Sampling, WeightRef
from store.home import RunFolder
from store.records import Event, Example, Scalar

METRIC = "sft/train/loss"
CHECKPOINT_EVERY = 7
STEP_SECONDS = 0.004
PROMPT = Prompt("q", 0, np.arange(3, dtype=np.int32), "1")

left: list[TemporaryDirectory[str]] = []  # nobody lets go of these before the process ends


def next_value(value: int, tokens: list[int]) -> int:
    """The chain's next value from the one before and the completions' token ids."""
    text = json.dumps([value, tokens]).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")


def expected_values(steps: int) -> list[int]:
    """Values of an undisturbed run."""
    values, value = [], 0
    for step in range(steps):
        value = next_value(value, [step * 10, step * 10 + 1])
        values.append(value)
    return values


def trainer(folder: RunFolder, child: TrainerChild) -> int:
    state = folder.path / "state.json"
    step, value = json.loads(state.read_text()) if state.exists() else (0, 0)
    total = int(_read(folder.path / "steps", "60"))
    last_trained = int(_read(folder.path / "trained-after", str(total + 1)))
    has_told = False
    child.emit(Event("stage", stage="sft", arm="sft", payload={"status": "started"}))

    def save() -> None:
        child.control.flush_records()
        temporary = state.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps([step, value]))
        temporary.replace(state)

    def save_as_ordered() -> None:
        while (folder.path / "hold-save").exists():
            threading.Event().wait(0.01)
        save()

    try:
        while step < total:
            if step >= last_trained and not has_told:
                _mark_as_trained(folder)
                child.control.announce_training_done()
                has_told = True
            _obstacles(folder, child)
            value = next_value(value, _ask(child, step))
            child.emit(Scalar(METRIC, step, float(value)))
            if _read(folder.path / "nan-at", "") == str(step):
                child.emit(Scalar("sft/train/grad_norm", step, float("nan")))
            child.emit(Example("sft", step, "train", "q", 0, True, 1.0, "correct", "?", "!", 1))
            step += 1
            if step % CHECKPOINT_EVERY == 0:
                save()
            child.control.boundary(save_as_ordered)
            threading.Event().wait(STEP_SECONDS)
    except StopRequested:
        while (folder.path / "hold-leave").exists():
            threading.Event().wait(0.01)
        return 3
    except _Failed:
        return 1
    save()
    if (again := int(_read(folder.path / "reopen", "0"))) > 0:
        (folder.path / "reopen").write_text(str(again - 1))
        child.emit(Event("stage", stage="eval", payload={"status": "stopped", "reopened": "sft"}))
        return REOPENED
    if (folder.path / "incomplete").exists():
        child.emit(Event("stage", "1 of 2 parts failed", "eval", payload={"status": "incomplete"}))
        return INCOMPLETE
    return 0


class _Failed(Exception):
    pass


def _mark_as_trained(folder: RunFolder) -> None:
    marker = folder.path / "finished" / "grpo"
    marker.parent.mkdir(exist_ok=True)
    marker.touch()


def _obstacles(folder: RunFolder, child: TrainerChild) -> None:
    if (folder.path / "hold-trainer").exists():
        child.emit(Event("log", "held"))
    while (folder.path / "hold-trainer").exists():
        threading.Event().wait(0.01)
    crash = folder.path / "crash"
    if crash.exists():
        crash.unlink()
        raise RuntimeError("the test asked for a crash")
    _crash_again(folder, "trainer")
    if (folder.path / "fail").exists():
        child.emit(Event("stage", "no such thing", "sft", "sft", payload={"status": "failed"}))
        raise _Failed


def _crash_again(folder: RunFolder, role: str) -> None:
    if (folder.path / f"crash-{role}").exists():
        raise FileNotFoundError(2, "No such file or directory", f"{role}.toml")


def _ask(child: TrainerChild, step: int) -> list[int]:
    generation = child.generation
    if generation is None:
        return [step * 10, step * 10 + 1]
    job = Job(
        generation.next_job_id(),
        "rollout",
        step,
        WeightRef("sft", step, ""),
        (PROMPT,),
        2,
        Sampling(1.0, 4),
        0,
    )
    generation.submit(job)
    tokens: dict[int, int] = {}
    while True:
        for result in generation.poll(1.0):
            assert result.job_id == job.job_id, "a result of another job"
            if isinstance(result, Completion):
                tokens[result.sample] = int(result.token_ids[0])
            elif isinstance(result, JobDone):
                return [tokens[sample] for sample in sorted(tokens)]


def worker(folder: RunFolder, child: WorkerChild) -> None:
    child.emit(Event("phase", "idle trainer" if child.trainer_idle else "trainer"))
    lock = get_context("spawn").Lock()  # a named semaphore, which the shared resource tracker must remove
    if (folder.path / "helpers").exists():
        command = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
        helper = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
        assert helper.stdout is not None
        helper.stdout.readline()
        (folder.path / "helpers").write_text(str(helper.pid))
    if (folder.path / "for-the-end").exists():
        left.append(TemporaryDirectory(prefix="left-", dir=folder.path))
        ctypes.CDLL(None).printf(b"said in C\n")
    while True:
        try:
            _serve(folder, child)
        except ChannelClosed:
            if not child.await_trainer():
                del lock
                return


def _serve(folder: RunFolder, child: WorkerChild) -> None:
    while True:
        job = child.jobs.get(0.05)
        _crash_again(folder, "worker")
        while (folder.path / "hold-worker").exists():
            child.jobs.get(0.01)
        if not isinstance(job, Job):
            continue
        for sample in range(job.samples):
            ids = np.array([job.step * 10 + sample], dtype=np.int32)
            logprobs = np.zeros(1, dtype=np.float32)
            child.results.put(
                Completion(
                    job.job_id,
                    job.kind,
                    job.weights.version,
                    0,
                    sample,
                    ids,
                    logprobs,
                    "stop",
                    "",
                    "correct",
                    "1",
                )
            )
        child.results.put(JobDone(job.job_id, job.kind, job.weights.version, (0,), 2, 3, 0.0, 0.0, 0.0))


def _read(path: Path, default: str) -> str:
    return path.read_text() if path.exists() else default
