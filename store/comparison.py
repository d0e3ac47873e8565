"""Comparison of two models on the same questions, task by task.

scores ─▶ paired differences ─▶ interval, p-value, detectable effect ─▶ Holm over the family

Scores come from the store's evaluation rows or from JSONL files. If a question has several answers, its score is their
mean. Intervals count questions, not completions. A question that only one side answered is an error that names it.
All comparisons of one call are one family for Holm's correction.
Perplexities are compared by their ratio on the same documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from store.results import Measure
from store.score_files import InputError, read_scores
from store.statistics.holm import holm
from store.statistics.paired import (
    paired_detectable_effect,
    paired_interval,
    paired_p_value,
    sign_flip_p_value,
)
from store.statistics.perplexity import detectable_perplexity_ratio, perplexity_ratio_interval
from store.statistics.resampling import RESAMPLES

if TYPE_CHECKING:
    from store.query import Store
    from store.results import EvalSummary

# Maximum number of ids that an error lists.
NAMED_IDS = 5

# Question id → score.
QuestionScores = Mapping[str, float]
# Task → scores.
TaskScores = Mapping[str, QuestionScores]
# The results of one side on one task, by question.
Q = TypeVar("Q", bound=Mapping[str, object])
# Document id → log-likelihood in nats, number of words.
DocumentScores = Mapping[str, tuple[float, int]]
# Confidence, resamples, seed.
Method = tuple[float, int, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Result of arm b against arm a on one task, with `n` shared questions.

    Rates, differences and effects are fractions; differences are b − a. If the measure is perplexity, rates
    are perplexities (lower is better). Difference, interval and effect are then changes relative to a: 0.02
    is 2 % more. `a_only` counts the questions that only a answers correctly, or better. `p_value_holm` is
    corrected for all comparisons of the family.
    """

    task: str
    # Number of questions.
    n: int
    a: str
    b: str
    a_rate: float
    b_rate: float
    difference: float
    ci_low: float
    ci_high: float
    confidence: float
    p_value: float
    p_value_holm: float
    # With 80 % power, at this confidence.
    minimum_detectable_effect: float
    # Number of questions on which a scored higher.
    a_only: int
    b_only: int
    measure: Measure = "accuracy"

    @property
    def gain(self) -> tuple[float, float, float]:
        """Return b's improvement and the ends of its interval.

        The sign is flipped if lower is better.
        """
        if self.measure == "perplexity":
            return -self.difference, -self.ci_high, -self.ci_low
        return self.difference, self.ci_low, self.ci_high

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Address:
    """Address of an arm of a run at a step; None is the latest evaluated step."""

    run: str
    arm: str
    step: int | None = None


def parse_address(text: str) -> Address:
    """Parse RUN/ARM or RUN/ARM@STEP.

    Raises: InputError if `text` has another form.
    """
    run, slash, rest = text.rpartition("/")
    arm, at, step = rest.partition("@")
    if not slash or not run or not arm or (at and not step.isdecimal()):
        raise InputError(f"{text}: not an arm; write RUN/ARM, RUN/ARM@STEP, or the path of a JSONL file")
    return Address(run, arm, int(step) if at else None)


def compare_tasks(
    a: TaskScores,
    b: TaskScores,
    labels: tuple[str, str],
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Comparison]:
    """Compare b with a on each shared task, as one Holm family.

    Args:
        labels: names of a and b in results and errors.
        confidence: coverage of the intervals, a fraction.
    Returns: comparisons in a's task order.
    Raises: InputError if the two share no task, or if the questions of a task differ.
    """
    shared = _shared(a, b, labels)
    return corrected(
        _compare(task, a[task], b[task], labels, (confidence, resamples, seed)) for task in shared
    )


def compare_files(
    a: Path, b: Path, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> list[Comparison]:
    """Compare two JSONL files with `id` and `correct`; `b` against `a`.

    Raises: InputError if a file cannot be used, or if tasks or questions differ.
    """
    a_tasks, b_tasks = read_scores(a), read_scores(b)
    if a_tasks.keys() != b_tasks.keys():
        raise InputError(
            f"{a} and {b} hold different tasks: {_listed(a_tasks)} against {_listed(b_tasks)}; give each the same tasks"
        )
    return compare_tasks(a_tasks, b_tasks, (str(a), str(b)), confidence, resamples, seed)


def compare_arms(
    store: Store, a: str, b: str, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> list[Comparison]:
    """Compare arm `b` with arm `a`, of one run or of two runs.

    Args:
        a, b: RUN/ARM or RUN/ARM@STEP.
    Raises: InputError if an arm is unknown, or if tasks, questions or windows do not match.
    """
    sides = [parse_address(text) for text in (a, b)]
    method = confidence, resamples, seed
    scores = [arm_scores(store, side) for side in sides]
    documents = [arm_documents(store, side) for side in sides]
    _shared({**scores[0], **documents[0]}, {**scores[1], **documents[1]}, (a, b))
    _refuse_other_windows([newest(evaluated(store, side)) for side in sides], (a, b))
    return corrected(_pair(scores, documents, (a, b), method))


def _refuse_other_windows(sides: Sequence[Sequence[EvalSummary]], labels: tuple[str, str]) -> None:
    """Raise InputError if the two evaluation windows differ and it matters.

    It matters only for a figure that depends on the window.
    """
    a_rows, b_rows = ({row.task: row for row in rows if row.window_tokens} for rows in sides)
    for task, row in a_rows.items():
        other = b_rows.get(task, row)
        depends = row.measure == "perplexity" or row.prompts_cut or other.prompts_cut
        if depends and row.window_tokens != other.window_tokens:
            raise InputError(
                f"task {task}: {labels[0]} read windows of {row.window_tokens} tokens and {labels[1]} of "
                f"{other.window_tokens}; evaluate both with the same eval.window"
            )


def run_comparisons(store: Store, run_id: str) -> list[Comparison]:
    """Compare each pair of a run's evaluated arms, as one Holm family.

    Pairs follow the profile's order (base first). Confidence, resamples and seed come from the run.
    A pair is left out until both arms have answered the same questions of a task.
    """
    config = store.config(run_id)
    settings = config.evaluation
    evaluated = {row.arm for row in store.evaluations(run_id)}
    names = [arm for arm in config.arms if arm in evaluated]
    scores = {name: arm_scores(store, Address(run_id, name)) for name in names}
    documents = {name: arm_documents(store, Address(run_id, name)) for name in names}
    method = settings["confidence"], settings["resamples"], config.seed
    return corrected(
        row
        for a, b in combinations(names, 2)
        for row in _pair(
            _on_the_same(scores[a], scores[b]), _on_the_same(documents[a], documents[b]), (a, b), method
        )
    )


def newest(rows: Iterable[EvalSummary]) -> list[EvalSummary]:
    """Return the last step's evaluation of each arm and task, in order."""
    found: dict[tuple[str, str, str], EvalSummary] = {}
    for row in rows:
        key = row.run, row.arm, row.task
        if key not in found or row.step >= found[key].step:
            found[key] = row
    return list(found.values())


def evaluated(store: Store, address: Address) -> list[EvalSummary]:
    """Return the arm's evaluations, at the step of `address` if it gives one.

    Raises: InputError if the arm has no evaluation there.
    """
    run_id = store.resolve(address.run)
    everything = store.evaluations(run_id)
    rows = [row for row in everything if row.arm == address.arm and address.step in (None, row.step)]
    if not rows:
        arms = sorted({row.arm for row in everything})
        hint = f"evaluated arms: {', '.join(arms)}" if arms else "it has no evaluation yet; run stage eval"
        at = "" if address.step is None else f" at step {address.step}"
        raise InputError(f"run {run_id}: no evaluation of arm {address.arm}{at}; {hint}")
    return rows


def arm_scores(store: Store, address: Address) -> dict[str, dict[str, float]]:
    """Return the arm's scores: task → question id → score.

    Uses the arm's last evaluated step if `address` gives no step.

    Raises: InputError if the arm has no evaluation there.
    """
    rows = evaluated(store, address)
    return {
        row.task: _question_means(store, row.run, address, row.task)
        for row in rows
        if row.measure == "accuracy"
    }


def arm_documents(store: Store, address: Address) -> dict[str, dict[str, tuple[float, int]]]:
    """Return an arm's documents: task → id → (log-likelihood, words).

    Only tasks measured by perplexity are included.

    Raises: InputError if the arm has no evaluation there.
    """
    found = {}
    for row in evaluated(store, address):
        if row.measure == "perplexity":
            scores = store.scores(row.run, address.arm, row.task, address.step)
            triples = zip(scores.ids, scores.score, scores.tokens, strict=True)
            found[row.task] = {
                str(document): (float(score), int(words)) for document, score, words in triples
            }
    return found


def corrected(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Return the comparisons as one family, with `p_value_holm` set."""
    rows = list(comparisons)
    adjusted = holm([row.p_value for row in rows])
    return [replace(row, p_value_holm=value) for row, value in zip(rows, adjusted, strict=True)]


def _shared(a: Mapping[str, object], b: Mapping[str, object], labels: tuple[str, str]) -> list[str]:
    """Return the tasks that both sides have, in a's order.

    Raises: InputError if the two share no task.
    """
    shared = [task for task in a if task in b]
    if not shared:
        raise InputError(
            f"{labels[0]} and {labels[1]} share no task: {_listed(a) or 'none'} against {_listed(b) or 'none'}"
        )
    return shared


def _on_the_same(a: Mapping[str, Q], b: Mapping[str, Q]) -> list[dict[str, Q]]:
    """Return each side's tasks that both answered on the same questions."""
    tasks = [task for task in a if task in b and a[task].keys() == b[task].keys()]
    return [{task: side[task] for task in tasks} for side in (a, b)]


def _pair(
    scores: Sequence[TaskScores],
    documents: Sequence[Mapping[str, DocumentScores]],
    labels: tuple[str, str],
    method: Method,
) -> Iterator[Comparison]:
    """Yield comparisons on shared tasks: accuracies, then perplexities."""
    for task in [task for task in scores[0] if task in scores[1]]:
        yield _compare(task, scores[0][task], scores[1][task], labels, method)
    for task in [task for task in documents[0] if task in documents[1]]:
        yield _compare_perplexity(task, documents[0][task], documents[1][task], labels, method)


def _compare(
    task: str, a: Mapping[str, float], b: Mapping[str, float], labels: tuple[str, str], method: Method
) -> Comparison:
    refuse_unpaired(task, a, b, labels)
    confidence, resamples, seed = method
    a_scores = np.fromiter(a.values(), dtype=np.float64, count=len(a))
    b_scores = np.fromiter((b[question] for question in a), dtype=np.float64, count=len(a))
    differences = b_scores - a_scores
    interval = paired_interval(differences, confidence, resamples, seed)
    p_value = paired_p_value(differences, resamples, seed)
    return Comparison(
        task=task,
        n=len(a),
        a=labels[0],
        b=labels[1],
        a_rate=float(a_scores.mean()),
        b_rate=float(b_scores.mean()),
        difference=interval.estimate,
        ci_low=interval.low,
        ci_high=interval.high,
        confidence=confidence,
        p_value=p_value,
        p_value_holm=p_value,
        minimum_detectable_effect=paired_detectable_effect(differences, confidence),
        a_only=int(np.sum(differences < 0)),
        b_only=int(np.sum(differences > 0)),
    )


def _compare_perplexity(
    task: str, a: DocumentScores, b: DocumentScores, labels: tuple[str, str], method: Method
) -> Comparison:
    """Compare by document; `a_only` counts documents that a predicts better."""
    refuse_unpaired(task, a, b, labels)
    confidence, resamples, seed = method
    a_nll, b_nll = (-np.array([side[document][0] for document in a]) for side in (a, b))
    words = np.array([words for _, words in a.values()], dtype=np.float64)
    ratio = perplexity_ratio_interval(a_nll, b_nll, words, confidence, resamples, seed)
    p_value = sign_flip_p_value(b_nll - a_nll, resamples, seed)
    return Comparison(
        task=task,
        n=len(a),
        a=labels[0],
        b=labels[1],
        a_rate=float(np.exp(a_nll.sum() / words.sum())),
        b_rate=float(np.exp(b_nll.sum() / words.sum())),
        difference=ratio.estimate - 1.0,
        ci_low=ratio.low - 1.0,
        ci_high=ratio.high - 1.0,
        confidence=confidence,
        p_value=p_value,
        p_value_holm=p_value,
        minimum_detectable_effect=detectable_perplexity_ratio(a_nll, b_nll, words, confidence) - 1.0,
        a_only=int(np.sum(a_nll < b_nll)),
        b_only=int(np.sum(b_nll < a_nll)),
        measure="perplexity",
    )


def refuse_unpaired(
    task: str, a: Mapping[str, object], b: Mapping[str, object], labels: tuple[str, str]
) -> None:
    """Raise InputError if the two sides have different questions.

    The message lists the ids that differ.
    """
    if a.keys() == b.keys():
        return
    only = [
        f"only in {label}: {_listed(missing)}"
        for label, missing in zip(
            labels, ([q for q in a if q not in b], [q for q in b if q not in a]), strict=True
        )
        if missing
    ]
    where = f"task {task}: " if task else ""
    raise InputError(f"{where}not the same questions; {'; '.join(only)}; evaluate both on the same ids")


def _question_means(store: Store, run_id: str, address: Address, task: str) -> dict[str, float]:
    scores = store.scores(run_id, address.arm, task, address.step)
    sums: dict[str, list[float]] = {}
    for question, score in zip(scores.ids, scores.score, strict=True):
        sums.setdefault(str(question), []).append(float(score))
    return {question: sum(values) / len(values) for question, values in sums.items()}


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    rest = f" and {len(found) - NAMED_IDS} more" if len(found) > NAMED_IDS else ""
    return ", ".join(name or "(no task)" for name in found[:NAMED_IDS]) + rest
