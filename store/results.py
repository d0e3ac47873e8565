"""Results of queries: frozen rows to show, compare or write as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from store.events import Part
from store.subject import Changes

# A run's status needs no arrays, and NumPy takes 0.1 s to import.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Measure = Literal["accuracy", "perplexity"]


@dataclass(frozen=True, slots=True)
class StageStatus:
    """Status of one stage of a run's plan.

    It is pending, started, finished, skipped, incomplete, failed, stopped or interrupted.
    """

    stage: str
    arm: str
    status: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in a list.

    `started` and `ended` are Unix seconds, or None if the run has not started or ended.
    `model` is the run's `model.source`; `changed` lists the settings that differ from the profile's.
    `damage` names damaged places of its journal, where rows may be missing.
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
    """Last known status of one of a run's processes.

    `role` is supervisor, trainer or worker. `alive` is checked now, not taken from the record.
    """

    role: str
    pid: int
    alive: bool


@dataclass(frozen=True, slots=True)
class RunStatus(RunSummary):
    """A run in full: its position, latest metrics and processes.

    Attributes:
        step: position of `total_steps`, counted in `unit`; None before the first progress report.
        part: progress within the step; None if none is reported.
        eta_seconds: seconds to the end of the stage; None if unknown.
        metrics: name → newest value.
    """

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
    """A metric reduced to buckets of equal width in steps.

    All arrays are (buckets,); empty buckets are left out. `step` is the last step of a bucket.
    `mean`, `low` and `high` are those of its finite values, or NaN without one.
    `ts` is the time of its last point in Unix seconds, or NaN if times were not requested.
    `nans` and `infs` count the other values.
    """

    metric: str
    step: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    ts: NDArray[np.float64]
    nans: NDArray[np.float64]
    infs: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EvalSummary:
    """Result of one arm on one task: `n` questions and `samples` completions.

    `rate` is the mean score: pass@1, averaged if a question has several samples.
    `low` and `high` are its 95 % Wilson interval over the n questions; samples of one question are not independent.
    If the task is measured by perplexity, `rate` is the perplexity.
    `low` and `high` are then its BCa interval over documents.

    A field that does not apply has the value None:
    `correct`, the number of correct completions, needs verdicts.
    `mean_tokens`, `cut_off`, `no_answer`, `pass_at_k` and `majority` need completions.
    `mean_words`, the mean number of words of a document, needs a perplexity.
    `window_tokens` needs a suite task, `prompts_cut` a suite task with prompts.

    `cut_off` counts completions that reached the token limit, with or without an answer. It matches GRPO's
    `completions/clipped_ratio`. It is also None for rows of versions that did not record it.
    `no_answer` counts completions without a readable answer, cut off or not.
    `pass_at_k` is the fraction of questions with a correct sample among their k = samples / n.
    `majority` is the fraction of questions with a correct most frequent answer.
    `prompts_cut` counts questions with a prompt longer than the window, which lost its start.
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
    """Scores by completion, to be paired with those of another arm.

    Arrays are (rows,), ordered by question and sample.
    """

    arm: str
    step: int
    task: str
    ids: NDArray[np.object_]
    sample: NDArray[np.int64]
    correct: NDArray[np.bool_]
    score: NDArray[np.float64]
    # Number of words if the score is a log-likelihood.
    tokens: NDArray[np.int64]
