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
    """Sampling settings of a job.

    Attributes:
        temperature: 0 means greedy.
        max_new_tokens: limit of a completion's tokens.
        top_p: keep the likeliest tokens that hold this share of the probability; 1 keeps all.
        stop: strings that end a completion. They are cut from its text, but their token ids are kept.
    """

    temperature: float
    max_new_tokens: int
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question as token ids.

    Attributes:
        ex_id: the question's id in the data set.
        index: position in the step; the seeds of its completions are derived from it.
        token_ids: (prompt tokens,).
        gold: the gold answer.
        text: the prompt as text, for servers.
        special: True if special tokens must be put before `text`.
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
    """A job for the worker: completions of prompts under `weights`.

    Attributes:
        step: training step that requests it; the completions' seeds follow from it.
        samples: completions of each prompt.
        seed: see `completion_seed`.
        wanted: number of prompts that are needed, for dynamic sampling. The other prompts are spares, used in
            order if all rewards of a group are equal. 0 means that all prompts are needed.
        priority: waiting jobs with a lower number go first.
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
    """Settings of one lm-eval task.

    Attributes:
        name: its name in lm-eval.
        recorded: the name under which its rows are recorded.
        shots: number of worked examples in each prompt.
        documents: number of documents; 0 means all.
        longest: limit of a completion's tokens.
        shots_seed: selects the worked examples.
        data: folder of local rows; "" for lm-eval's own data.
        window: tokens that the task reads at once; 0 means the generator's maximum.
    """

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
    """One finished and graded completion.

    Attributes:
        version: version of the weights that generated it.
        prompt: Prompt.index.
        sample: index within its group.
        token_ids: (tokens,). The last one is the end-of-sequence id exactly if the completion ended by
            itself.
        logprobs: (tokens,) the sampler's log-probs, at the job's temperature.
        finish: 'stop' if it ended by itself or at a stop string, 'length' at the token limit.
        outcome: the grader's verdict.
        answer: the answer that the grader found; "" for none.
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

    Attributes:
        kept: prompt indices of the groups to be used, in order.
        seconds_generating: the worker's time for the job.
        seconds_loading: time to load its weights.
        seconds_idle: time that the worker waited for the job.
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
    """Reports that `done` of a suite job's `total` documents are answered."""

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
