"""One lm-eval task with one model: lm-eval's own prompts and scorers, our limits, a row for every document.

A task that fails says why and leaves the others' results alone. The generation limit is passed with the requests, so
that it really arrives: tasks' own YAML would otherwise cut at 256 tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from datasets.exceptions import DatasetGenerationError, DatasetsError
from huggingface_hub.errors import EntryNotFoundError
from jinja2 import TemplateError

from engine.context import fault_of
from engine.data.hub import UNREACHABLE
from engine.generators.interface import JobRefused
from engine.messages import SuiteTask
from engine.suite.names import LOCAL
from engine.suite.overlays import FOLDERS, definitions, write_overlays
from engine.suite.rows import Leaf, is_perplexity, rows
from store.records import Example

OWN_SHOTS = frozenset({"truthfulqa_mc2", "wikitext"})  # fixed worked examples, or none that would make sense

LOADING_SEED = 0  # lm-eval's own: some tasks shuffle choices as they load, and all runs must ask the same

TEMPLATES = 512  # that are kept; MMLU's 57 leaves have two each

# What tasks' own code raises, and what fetches and reads their rows: tasks are anybody's, and one that fails must leave
# the others alone.
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    DatasetsError,
    EntryNotFoundError,
    TemplateError,
    *UNREACHABLE,
)


class TaskFailed(JobRefused):
    """The task could not be evaluated; the message is one line with the task and the reason."""


def evaluate(model: Any, task: SuiteTask, arm: str, step: int) -> Iterator[Example]:
    """The rows of `task` with `model`, an engine.suite.model.GeneratorModel; TaskFailed names what went wrong.

    A GPU's fault is no task's: this process can use the GPU no more, and another must do the task again.
    """
    try:
        samples = _samples(model, task)
        found = [
            row
            for leaf in sorted(samples)
            for row in rows(
                Leaf(arm, step, task.recorded, leaf, model.max_length),
                samples[leaf],
                model.generated,
                model.asked,
            )
        ]
    except torch.AcceleratorError:
        raise
    except DatasetGenerationError as error:  # rows that are no rows; its cause says what is wrong with them
        raise TaskFailed(f"{task.name}: {fault_of(error.__cause__ or error)}") from error
    except FAULTS as error:
        raise TaskFailed(f"{task.name}: {fault_of(error)}") from error
    if not found:
        raise TaskFailed(
            f"{task.name}: none of its measures is a score of single documents, so arms cannot be paired"
        )
    if all(row.outcome == "error" for row in found):
        raise TaskFailed(
            f"{task.name}: no document has a log-likelihood that is a number; the weights are broken"
        )
    yield from found


def _samples(model: Any, task: SuiteTask) -> dict[str, list[Any]]:
    """lm-eval's samples of each leaf task."""
    from lm_eval.evaluator import evaluate as lm_evaluate

    _compile_templates_once()
    _seed(LOADING_SEED)
    leaves = _task_manager(task.data, task.name in LOCAL)[0].load(task.name)["tasks"]
    if len({any(map(is_perplexity, leaf.aggregation())) for leaf in leaves.values()}) > 1:
        raise ValueError(
            "holds perplexities and accuracies, which have no common mean; name its tasks one by one in eval.suite"
        )
    documents = _documents({name: len(leaf.eval_docs) for name, leaf in leaves.items()}, task.documents)
    for name in documents:
        _configure(leaves[name], task)
    _seed(task.shots_seed)
    results = lm_evaluate(
        lm=model,
        task_dict={"tasks": {name: leaves[name] for name in documents}, "groups": {}},
        samples=documents,
        bootstrap_iters=0,
        log_samples=True,
    )
    found: dict[str, list[Any]] = results["samples"]
    for name, samples in found.items():
        for sample in samples:
            sample["gold"] = _gold(leaves[name], sample)
    return found


def _gold(leaf: Any, sample: dict[str, Any]) -> Any:
    """The right choice as lm-eval finds it: where each choice has its own context, in place of the question's text."""
    return leaf.doc_to_text(sample["doc"]) if getattr(leaf, "multiple_input", 0) else sample["target"]


def _seed(seed: int) -> None:
    """Of the global generators, from which some tasks draw."""
    random.seed(seed)
    np.random.seed(seed % 2**32)


@cache
def _compile_templates_once() -> None:
    """Has lm-eval keep its templates: it compiles them for every document, a minute of MMLU's minute and a half."""
    from lm_eval import utils

    utils.env.from_string = lru_cache(TEMPLATES)(utils.env.from_string)


def _configure(leaf: Any, task: SuiteTask) -> None:
    """Shots where the task allows them, the seed that chooses them, and the limit of generated answers."""
    if leaf.get_config("output_type") == "generate_until":
        leaf.set_config(key="generation_kwargs", value={"max_gen_toks": task.longest}, update=True)
    usual = leaf.get_config("num_fewshot")
    if task.name not in OWN_SHOTS and usual != 0:  # a task that says 0 itself allows none
        leaf.set_config(key="num_fewshot", value=task.shots)
    elif usual is None:
        leaf.set_config(key="num_fewshot", value=0)
    leaf.set_fewshot_seed(seed=task.shots_seed)


@lru_cache(2)
def _task_manager(data: str, usual: bool) -> tuple[Any, TemporaryDirectory[str] | None]:
    """lm-eval's registry of tasks, with the rows under `data` (empty: the hub) in place of the hub's.

    Of `usual` tasks only the definitions are read: those of all tasks take ten seconds. The registry reads its files
    again when a task is asked for, so their folder lives as long as it does.
    """
    from lm_eval.tasks import TaskManager

    paths: list[str | Path] = [definitions() / folder for folder in FOLDERS] if usual else []
    if not data:
        return TaskManager(include_path=paths, include_defaults=not usual), None
    folder = TemporaryDirectory(prefix="mathrl-overlays-")
    if not write_overlays(Path(data).expanduser(), Path(folder.name)):
        raise FileNotFoundError(f"{data}: no folder of rows of a known task; see eval.suite_data")
    return TaskManager(include_path=[*paths, folder.name], include_defaults=not usual), folder


def _documents(sizes: dict[str, int], total: int) -> dict[str, range]:
    """Which documents of each leaf to ask: all, or `total` from the starts of the leaves, as evenly as they allow.

    lm-eval looks for each document in them: in a list of 10,000 that takes a second.
    """
    kept = _spread(total, list(sizes.values())) if total else list(sizes.values())
    return {leaf: range(size) for leaf, size in zip(sizes, kept, strict=True) if size}


def _spread(total: int, sizes: Sequence[int]) -> list[int]:
    """`total` documents over leaves of these sizes, as evenly as they allow."""
    kept = [0] * len(sizes)
    while sum(kept) < min(total, sum(sizes)):
        for place, size in enumerate(sizes):
            if kept[place] < size and sum(kept) < total:
                kept[place] += 1
    return kept
