"""Evaluate one lm-eval task with one model.

Prompts and scorers are lm-eval's; limits are this project's. Each document gives a row. A task that fails
reports the reason and does not affect other tasks. The generation limit is passed with the requests, because
the tasks' own YAML would otherwise cut at 256 tokens.
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
from engine.lm_eval_suite.names import LOCAL
from engine.lm_eval_suite.overlays import FOLDERS, definitions, write_overlays
from engine.lm_eval_suite.rows import RowOrigin, is_perplexity, rows
from engine.protocol.messages import SuiteTask
from store.records import Example

# These tasks have fixed worked examples, or none that would make sense.
OWN_SHOTS = frozenset({"truthfulqa_mc2", "wikitext"})

# lm-eval's own seed. Some tasks shuffle choices while loading, and all runs must use the same order.
LOADING_SEED = 0

# Number of cached templates. Each of MMLU's 57 leaves has two.
TEMPLATES = 512

# Errors of tasks' own code, and of downloading and reading their rows. Anyone can write a task, and one that
# fails must not affect the others.
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
    """The task could not be evaluated; the message gives the reason."""


def evaluate(model: Any, task: SuiteTask, arm: str, step: int) -> Iterator[Example]:
    """Yield the rows of `task` with `model`.

    `model` is an `engine.lm_eval_suite.model.GeneratorModel`.
    Raises: TaskFailed with the reason. Raises: torch.AcceleratorError if the GPU fails: this process can then
        not use the GPU again, and another one must repeat the task.
    """
    try:
        samples = _samples(model, task)
        found = [
            row
            for leaf in sorted(samples)
            for row in rows(
                RowOrigin(arm, step, task.recorded, leaf, model.max_length),
                samples[leaf],
                model.generated,
                model.asked,
            )
        ]
    except torch.AcceleratorError:
        raise
    # The rows cannot be read; the cause gives the reason.
    except DatasetGenerationError as error:
        raise TaskFailed(f"{task.name}: {fault_of(error.__cause__ or error)}") from error
    except FAULTS as error:
        raise TaskFailed(f"{task.name}: {fault_of(error)}") from error
    _check_rows(task, found)
    yield from found


def _check_rows(task: SuiteTask, found: list[Example]) -> None:
    """Raise TaskFailed if arms cannot be compared by the rows."""
    if not found:
        raise TaskFailed(
            f"{task.name}: none of its measures is a score of single documents, so arms cannot be paired"
        )
    if all(row.outcome == "error" for row in found):
        raise TaskFailed(
            f"{task.name}: no document has a log-likelihood that is a number; the weights are broken"
        )


def _samples(model: Any, task: SuiteTask) -> dict[str, list[Any]]:
    """Return lm-eval's samples of each leaf task."""
    from lm_eval.evaluator import evaluate as lm_evaluate

    _compile_templates_once()
    _seed(LOADING_SEED)
    leaves = _task_manager(task.data, task.name in LOCAL)[0].load(task.name)["tasks"]
    if len({any(map(is_perplexity, leaf.aggregation())) for leaf in leaves.values()}) > 1:
        raise ValueError(
            "holds perplexities and accuracies, which have no common mean; list its tasks one by one in eval.suite"
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
    """Return the right choice as lm-eval finds it.

    If each choice has its own context, it takes the place of the question's text.
    """
    return leaf.doc_to_text(sample["doc"]) if getattr(leaf, "multiple_input", 0) else sample["target"]


def _seed(seed: int) -> None:
    """Seed the global generators, which some tasks use."""
    random.seed(seed)
    np.random.seed(seed % 2**32)


@cache
def _compile_templates_once() -> None:
    """Make lm-eval cache its templates.

    It compiles them for every document, which takes one of MMLU's one and a half minutes.
    """
    from lm_eval import utils

    utils.env.from_string = lru_cache(TEMPLATES)(utils.env.from_string)


def _configure(leaf: Any, task: SuiteTask) -> None:
    """Set the allowed shots, their seed, and the generation limit."""
    if leaf.get_config("output_type") == "generate_until":
        leaf.set_config(key="generation_kwargs", value={"max_gen_toks": task.longest}, update=True)
    usual = leaf.get_config("num_fewshot")
    # A task with num_fewshot 0 of its own allows no shots.
    if task.name not in OWN_SHOTS and usual != 0:
        leaf.set_config(key="num_fewshot", value=task.shots)
    elif usual is None:
        leaf.set_config(key="num_fewshot", value=0)
    leaf.set_fewshot_seed(seed=task.shots_seed)


@lru_cache(2)
def _task_manager(data: str, usual: bool) -> tuple[Any, TemporaryDirectory[str] | None]:
    """Return lm-eval's registry of tasks over the rows under `data`.

    They replace the hub's rows.
    Empty `data` means the hub. For `usual` tasks only their own definitions are read, because reading all
    tasks takes ten seconds. The registry reads its files again when a task is loaded, so the folder must live
    as long as the registry.
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
    """Return the documents of each leaf to evaluate.

    They are all, or `total` from the starts of the leaves, distributed evenly. It returns ranges, because
    lm-eval searches each document in them: in a list of 10,000 that takes a second.
    """
    kept = _spread(total, list(sizes.values())) if total else list(sizes.values())
    return {leaf: range(size) for leaf, size in zip(sizes, kept, strict=True) if size}


def _spread(total: int, sizes: Sequence[int]) -> list[int]:
    """Distribute `total` documents over leaves as evenly as possible.

    The leaves have these sizes.
    """
    kept = [0] * len(sizes)
    while sum(kept) < min(total, sum(sizes)):
        for place, size in enumerate(sizes):
            if kept[place] < size and sum(kept) < total:
                kept[place] += 1
    return kept
