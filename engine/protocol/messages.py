"""Messages between trainer and worker.

They hold job id, kind and weight version.

    trainer ── Job, SuiteJob, Stop ─▶ worker
    trainer ◀─ Completion …, JobDone | SuiteProgress …, SuiteDone | JobFailed ─ worker

The trainer drops and counts results with an unknown job id (of an earlier worker or a cancelled job). So a
late validation result is never used as a rollout. Token ids are int32 arrays and log-probs float32 arrays,
exactly as they were sampled. They are never tokenised again. This module does not import torch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from store.records import Example

JobKind = Literal["rollout", "validation", "evaluation", "suite"]
Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class WeightRef:
    """Reference to the weights of an arm after `version` updates.

    `location` is a published slot in shared memory, or a checkpoint folder in Hugging Face format.
    """

    arm: str
    version: int
    location: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings. Temperature 0 is greedy.

    `text` excludes stop strings, but their ids are kept.
    """

    temperature: float
    max_new_tokens: int
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question. `index` is its position in the step.

    The seeds of its completions are derived from it.
    """

    ex_id: str
    index: int
    # (prompt tokens,)
    token_ids: NDArray[np.int32]
    gold: str
    text: str = ""
    # True if the tokenizer's leading special tokens must precede `text`. A chat template writes its own.
    special: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A job: `samples` completions of each prompt under `weights`.

    `wanted` is for dynamic sampling: this number of prompts is needed. The others are spares, used in order
    if all rewards of a group are equal. With 0, all prompts are wanted. Waiting jobs with a lower `priority`
    go first.
    """

    job_id: int
    kind: JobKind
    step: int
    weights: WeightRef
    prompts: tuple[Prompt, ...]
    samples: int
    sampling: Sampling
    seed: int
    wanted: int = 0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class SuiteTask:
    """Settings of one lm-eval task. `documents` 0 means all documents."""

    name: str
    # The task name of its recorded rows.
    recorded: str
    shots: int
    documents: int
    # Maximum number of new tokens of a generated answer.
    longest: int
    # Selects the few-shot examples, and seeds other random choices of a task's prompts.
    shots_seed: int
    # The seed of sampled completions.
    seed: int
    # Folder of local rows; empty for the hub.
    data: str
    # Tokens of a text that are read at once; 0 for the generator's maximum.
    window: int = 0


@dataclass(frozen=True, slots=True)
class SuiteJob:
    """A job for the worker: one lm-eval task under `weights`."""

    job_id: int
    step: int
    weights: WeightRef
    task: SuiteTask
    kind: JobKind = "suite"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the worker to exit."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished completion.

    `logprobs` are the sampler's log-probs of each id in `token_ids`, at the job's temperature. `token_ids`
    includes the end-of-sequence id exactly if the completion ended by itself (`finish` is 'stop').
    """

    job_id: int
    kind: JobKind
    version: int
    # The `index` of its prompt.
    prompt: int
    sample: int
    # (completion tokens,)
    token_ids: NDArray[np.int32]
    # (completion tokens,)
    logprobs: NDArray[np.float32]
    finish: Finish
    text: str
    outcome: str
    # The answer that the grader extracted.
    answer: str


@dataclass(frozen=True, slots=True)
class JobDone:
    """Reports that every completion of the job was sent.

    `kept` are the prompt indices of the groups to use, in order.
    """

    job_id: int
    kind: JobKind
    version: int
    kept: tuple[int, ...]
    generated_tokens: int
    prompt_tokens: int
    seconds_generating: float
    seconds_loading: float
    # Time that the worker waited for this job.
    seconds_idle: float


@dataclass(frozen=True, slots=True)
class SuiteDone:
    """The rows of a finished suite job, one for each document and measure."""

    job_id: int
    kind: JobKind
    rows: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class SuiteProgress:
    """Reports the number of answered documents of a running suite job."""

    job_id: int
    kind: JobKind
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class JobFailed:
    """Reports that the job failed and that a retry would fail too.

    The worker takes its next job.
    """

    job_id: int
    kind: JobKind
    error: str


Work = Job | SuiteJob
WorkerRequest = Work | Stop
WorkerResult = Completion | JobDone | SuiteDone | SuiteProgress | JobFailed


def derived_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends only on `parts`.

    It is the same on every machine and in every process.
    """
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def completion_seed(seed: int, step: int, prompt: int, sample: int) -> int:
    """Return the seed of one completion.

    It follows from the job's seed and step, prompt index and sample number.
    """
    return derived_seed("completion", seed, step, prompt, sample)
