"""What trainer and worker say to each other: typed messages that carry job id, kind and weight version.

A result whose job id is unknown to the trainer (of an earlier worker, of a cancelled job) is dropped and counted,
so that a late validation result can never be taken for a rollout. Nothing here imports torch: token ids travel as
int32 arrays and log-probs as float32 arrays, exactly as they were sampled, and are never tokenised again.
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
    """Which weights a job wants: version v of an arm (after v updates), and where they lie.

    `location` is a published slot in shared memory or a checkpoint folder in Hugging Face form.
    """

    arm: str
    version: int
    location: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn. Temperature 0 is greedy. Stop strings are left out of `text`, their ids are kept."""

    temperature: float
    max_new_tokens: int
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question: `index` is its place in the step's order, from which the completions' seeds follow."""

    ex_id: str
    index: int
    token_ids: NDArray[np.int32]  # (prompt tokens,)
    gold: str
    text: str = ""
    special: bool = (
        False  # the tokenizer's leading special tokens go before `text` (a chat template writes its own)
    )


@dataclass(frozen=True, slots=True)
class Job:
    """Work for the worker: `samples` completions of each prompt under the weights `weights`.

    `wanted` prompts are needed; the rest are spares, used in order where a group's rewards are all equal
    (dynamic sampling; 0: all prompts are wanted and none is spare). Lower `priority` goes first among waiting jobs.
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
    """How one lm-eval task is asked. `documents` 0: all of them."""

    name: str
    recorded: str  # under which name its rows are recorded
    shots: int
    documents: int
    longest: int  # new tokens of a generated answer
    shots_seed: int  # chooses the few-shot examples, and what a task draws as it builds its prompts
    seed: int  # of completions that are sampled
    data: str  # folder of local rows (empty: the hub)
    window: int = 0  # tokens of a text that are read at once (0: as many as the generator takes)


@dataclass(frozen=True, slots=True)
class SuiteJob:
    """One lm-eval task for the worker, under the weights `weights`."""

    job_id: int
    step: int
    weights: WeightRef
    task: SuiteTask
    kind: JobKind = "suite"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """The worker ends after this."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished completion. `logprobs` are the sampler's, at the job's temperature, of each id in `token_ids`.

    `token_ids` holds the end-of-sequence id exactly when the completion ended by itself (`finish` 'stop').
    """

    job_id: int
    kind: JobKind
    version: int
    prompt: int  # Prompt.index
    sample: int
    token_ids: NDArray[np.int32]  # (completion tokens,)
    logprobs: NDArray[np.float32]  # (completion tokens,)
    finish: Finish
    text: str
    outcome: str
    answer: str  # what the grader extracted


@dataclass(frozen=True, slots=True)
class JobDone:
    """Every completion of the job was sent. `kept` are the prompt indices of the groups to use, in order."""

    job_id: int
    kind: JobKind
    version: int
    kept: tuple[int, ...]
    generated_tokens: int
    prompt_tokens: int
    seconds_generating: float
    seconds_loading: float
    seconds_idle: float  # waited for this job


@dataclass(frozen=True, slots=True)
class SuiteDone:
    """The rows of a suite job, one a document and measure."""

    job_id: int
    kind: JobKind
    rows: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class SuiteProgress:
    """How many documents of a suite job are answered; the job goes on."""

    job_id: int
    kind: JobKind
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The job could not be done, and another try would fail alike; the worker goes on."""

    job_id: int
    kind: JobKind
    error: str


Work = Job | SuiteJob
Request = Work | Stop
Result = Completion | JobDone | SuiteDone | SuiteProgress | JobFailed


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that follows from `parts` alone: the same on every machine and in every process."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def completion_seed(seed: int, step: int, prompt: int, sample: int) -> int:
    """Seed of one completion, from the job's seed, its step, the prompt's index and the sample's number."""
    return derived_seed("completion", seed, step, prompt, sample)
