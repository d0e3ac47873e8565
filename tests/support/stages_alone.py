"""The training stages in the test's own process: a real model of ten thousand parameters, and a worker by hand."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2ForCausalLM

from engine.context import Context, Control, StopRequested
from engine.data.sequence import TokenSequence
from engine.generators.checkpoint import named_tensors
from engine.protocol.messages import Completion, Job, JobDone, Work, WorkerResult
from engine.stages import stage
from engine.training.own_forward import own_logprobs
from engine.weight_sync.weights import WeightReader
from profiles.load import load
from store.records import Record
from tests.support.small_experiment import make_inputs, model_config
from tests.support.stage_context import NoCommands, make_context

Waits = Callable[[Job], bool]


class HandWorker:
    """A `Generation` that answers a job when it is told to: at once, unless `waits` says so.

    Completions follow from the job and the weights that it names, as a real worker's do.
    """

    def __init__(self, waits: Waits = lambda job: False) -> None:
        self.waits = waits
        self.open: dict[int, Job] = {}
        self._ids = iter(range(1_000_000))
        self._idle_polls = 0

    def next_job_id(self) -> int:
        return next(self._ids)

    def submit(self, job: Work) -> None:
        assert isinstance(job, Job)
        self.open[job.job_id] = job

    def poll(self, timeout: float) -> list[WorkerResult]:
        ready = [job for job in self.open.values() if not self.waits(job)]
        for job in ready:
            del self.open[job.job_id]
        self._idle_polls = 0 if ready or not timeout else self._idle_polls + 1
        assert self._idle_polls < 50, f"it waits for {[(j.kind, j.step) for j in self.open.values()]}"
        return [result for job in ready for result in answer(job)]


def answer(job: Job) -> list[WorkerResult]:
    """What a worker says to `job`."""
    tensors = named_tensors(job.weights, WeightReader())
    digest = zlib.crc32(b"".join(tensors[name].view(torch.uint8).numpy().data for name in sorted(tensors)))
    prompts = job.prompts[: job.wanted or None]
    version, length = job.weights.version, min(3, job.sampling.max_new_tokens)
    model = model_with(tensors)
    results: list[WorkerResult] = []
    for prompt in prompts:
        for sample in range(job.samples):
            rng = np.random.default_rng([job.seed % 2**32, job.step, prompt.index, sample, digest])
            ids = np.array([*rng.integers(6, 30, size=length - 1), 0], dtype=np.int32)
            whole = TokenSequence(
                np.concatenate([prompt.token_ids, ids]), len(prompt.token_ids), finished=True
            )
            (logprobs,) = own_logprobs(model, [whole])
            outcome = "correct" if rng.random() < 0.5 else "wrong"
            results.append(
                Completion(
                    job.job_id,
                    job.kind,
                    version,
                    prompt.index,
                    sample,
                    ids,
                    logprobs,
                    "stop",
                    "",
                    outcome,
                    "",
                )
            )
    kept = tuple(prompt.index for prompt in prompts)
    return [*results, JobDone(job.job_id, job.kind, version, kept, 1, 1, 0.1, 0.0, 0.0)]


@cache
def untrained() -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM(model_config())


def model_with(tensors: Mapping[str, torch.Tensor]) -> Qwen2ForCausalLM:
    """The experiment's model with the weights `tensors`, for transformers' own forward."""
    model = untrained()
    model.load_state_dict(dict(tensors), strict=False)  # the head is the embedding
    return model


class StopsAt(NoCommands):
    """A control that stops the stage at its boundary number `place`, counted from 0."""

    def __init__(self, place: int) -> None:
        self.place = place

    def boundary(self, save: Callable[[], None] | None = None) -> None:
        self.place -= 1
        if self.place == -1:
            assert save is not None
            save()
            raise StopRequested


def prepared(folder: Path, *settings: str) -> tuple[Context, list[Record]]:
    """A run up to its preprocessed rows, and what it has told and will tell."""
    context, told = make_context(folder / "home", load(str(make_inputs(folder)), settings))
    for name in ("data", "traces", "preprocess"):
        stage(name)(replace(context, stage=name))
    return context, told


def train(context: Context, arm: str, worker: HandWorker, control: Control | None = None) -> None:
    """Runs the stage that makes `arm`."""
    made = context.profile.arm(arm)
    stage(made.stage)(
        replace(context, stage=made.stage, arm=made, generation=worker, control=control or NoCommands())
    )
