"""What queries give: plain frozen rows, ready to show, to compare or to write as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from store.records import Part
from store.subject import Changes

Measure = Literal["accuracy", "perplexity"]


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One step of a run's plan: pending, started, finished, skipped, incomplete, failed, stopped or interrupted."""

    stage: str
    arm: str
    status: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in a list. `started` and `ended` are Unix seconds, None if that has not happened.

    `model` is the profile's `model.source` as the run was set; `changed` are the settings that the run changed.
    `damage` names the damaged places of its journal, of which rows may be missing.
    """

    run: str
    name: str
    state: str
    reason: str
    stages: list[StageStatus]
    profile: str
    seed: int
    started: float | None
    ended: float | None
    model: str = field(default="", kw_only=True)
    changed: Changes = field(default_factory=dict, kw_only=True)
    damage: list[str] = field(default_factory=list, kw_only=True)


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The last that was heard of one of a run's processes."""

    role: str
    pid: int
    alive: bool


@dataclass(frozen=True, slots=True)
class RunStatus(RunSummary):
    """A run in full: where it is (step of total_steps, in `unit`, and within the step), last metrics, processes."""

    stage: str
    arm: str
    step: int | None
    total_steps: int | None
    unit: str
    part: Part | None
    eta_seconds: float | None
    metrics: dict[str, float]
    processes: list[ProcessStatus]


@dataclass(frozen=True, slots=True)
class Series:
    """A metric reduced to buckets of equal width in steps; all arrays are `(buckets,)`, empty buckets left out.

    `step` is a bucket's last step and `ts` the time of its last point, NaN where times were not asked for.
    """

    metric: str
    step: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    ts: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EvalSummary:
    """One arm on one task: `n` questions, `samples` completions of which `correct` are right.

    `rate` is the mean score: pass@1, averaged if a question has several samples. `low` and `high` are its 95 %
    Wilson interval over the n questions (several samples of one question are not independent). Of a task that is
    measured by perplexity, `rate` is the perplexity, and `low` and `high` its BCa interval over documents.

    What does not apply is None. `correct` needs verdicts; `mean_tokens`, `cut_off`, `no_answer`, `pass_at_k` and
    `majority` need completions; `mean_words` (a document) needs a perplexity; `window_tokens` needs a suite task, and
    `prompts_cut` one that is asked and not only read.
    `cut_off` counts completions that ran into the token limit, with an answer or without, as GRPO's
    `completions/clipped_ratio` does; it is also None for rows of versions that did not record it. `no_answer` counts
    completions without a readable answer, cut off or not. `pass_at_k` is the share of questions with a right sample
    among their k = samples / n, `majority` that with the most frequent answer right. `prompts_cut` counts questions
    with a prompt that did not fit into the window and lost its start.
    """

    run: str
    arm: str
    step: int
    task: str
    n: int
    samples: int
    correct: int | None
    rate: float
    low: float
    high: float
    mean_tokens: float | None
    mean_words: float | None
    cut_off: int | None
    no_answer: int | None
    measure: Measure
    pass_at_k: float | None
    majority: float | None
    prompts_cut: int | None
    window_tokens: int | None


@dataclass(frozen=True, slots=True)
class Scores:
    """Results by completion, ordered by question and sample, to be paired with another arm's; arrays `(rows,)`."""

    arm: str
    step: int
    task: str
    ids: NDArray[np.object_]
    sample: NDArray[np.int64]
    correct: NDArray[np.bool_]
    score: NDArray[np.float64]
    tokens: NDArray[np.int64]  # words, where the score is a log-likelihood
