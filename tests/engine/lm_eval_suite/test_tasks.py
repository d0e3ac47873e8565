"""Anybody's tasks, as lm-eval reads them: some shuffle as they load, mix measures, or have rows that are no rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml
from huggingface_hub.errors import HfHubHTTPError
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from engine.lm_eval_suite import names
from engine.lm_eval_suite.evaluate import TaskFailed, evaluate
from engine.protocol.messages import SuiteTask
from profiles.schema import Eval
from store.records import LOGLIKELIHOOD, Example

CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{text}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{gold}}",
    "metric_list": [{"metric": "acc"}],
}
SHUFFLED = """
import random

def shuffled(dataset):
    def one(row):
        choices = random.sample(row["choices"], len(row["choices"]))
        return {"choices": choices, "gold": choices.index(row["choices"][row["gold"]])}
    return dataset.map(one)
"""
ROWS = [
    {"text": f"question {n}", "choices": ["one", "two", "three", "four"], "gold": n % 4} for n in range(12)
]


class Likelihood(LM):  # type: ignore[misc]  # lm-eval has no types
    """Finds longer texts less likely, and knows nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.generated: dict[Any, Any] = {}
        self.max_length = 64

    def asked(self, context: str, continuation: str = "") -> tuple[str, int]:
        return context, 0

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        return [(-float(len(request.args[1])), False) for request in requests]

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        return [-float(len(request.args[0])) for request in requests]

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        raise AssertionError("none of these tasks asks for an answer")


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of tasks, in place of lm-eval's own."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(
        "engine.lm_eval_suite.evaluate._task_manager",
        lambda data, usual: (TaskManager(include_path=folder, include_defaults=False), None),
    )
    return folder


def add(folder: Path, name: str, rows: str | Sequence[Any], **settings: Any) -> None:
    """Defines a task with `rows`, or with a file of that text."""
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{name}.jsonl").write_text(text)
    files = {"data_files": {"test": str(folder / f"{name}.jsonl")}}
    common = {"task": name, "dataset_path": "json", "dataset_kwargs": files, "test_split": "test"}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**common, **settings}))


def asked(name: str, seed: int = 0) -> list[Example]:
    return list(evaluate(Likelihood(), SuiteTask(name, name, 0, 0, 8, seed, seed, ""), "base", 0))


def test_choices_that_a_task_shuffles_as_it_loads_are_the_same_for_every_arm_and_seed(tasks: Path) -> None:
    (tasks / "own.py").write_text(SHUFFLED)
    for name in ("here", "there", "elsewhere"):  # where datasets has not kept what another made of the rows
        add(tasks, name, ROWS, **CHOICE)
        with (tasks / f"{name}.yaml").open("a") as definition:
            definition.write("process_docs: !function own.shuffled\n")
    here = [row.gold for row in asked("here")]
    assert here != [str(row["gold"]) for row in ROWS]  # it did shuffle
    assert [row.gold for row in asked("there")] == here
    assert [row.gold for row in asked("elsewhere", seed=7)] == here


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"text": "a question", "choices"', "JSON parse error"),  # a copy that was cut off
        ("", "StopIteration"),
        ('{"text": "a question"}\n', "'gold' is undefined"),
    ],
)
def test_rows_that_cannot_be_read_fail_their_task_and_not_the_worker(
    tasks: Path, text: str, reason: str
) -> None:
    add(tasks, "damaged", text, **CHOICE)
    with pytest.raises(TaskFailed, match=f"damaged: .*{reason}"):
        asked("damaged")


def test_a_hub_that_fails_in_the_middle_fails_the_task_and_not_the_worker(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise HfHubHTTPError.__bases__[0]("too slow")  # the HTTP client's own error

    add(tasks, "far", ROWS, **CHOICE)
    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(TaskFailed, match="far: HTTPError: too slow"):
        asked("far")


def test_a_group_of_accuracies_and_perplexities_is_refused(tasks: Path) -> None:
    rolling = {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}],
    }
    add(tasks, "page", ROWS, **rolling)
    add(tasks, "quiz", ROWS, **CHOICE)
    (tasks / "both.yaml").write_text(yaml.safe_dump({"group": "both", "task": ["page", "quiz"]}))
    assert {row.outcome for row in asked("page")} == {LOGLIKELIHOOD}
    assert {row.outcome for row in asked("quiz")} == {"correct", "wrong"}
    with pytest.raises(TaskFailed, match="both: .*list its tasks one by one"):
        asked("both")


def test_every_kind_of_name_that_lm_eval_has_is_known() -> None:
    """A tag in a list, a tag of a shared template, a quoted key, a group that is only named in a list."""
    known = ("ai2_arc", "gpqa", "mmlu_flan_n_shot_loglikelihood_anatomy", "crows_pairs", "gsm8k")
    assert not list(names.faults(Eval(suite=known)))
    (fault,) = names.faults(Eval(suite=("gsm9k",)))
    assert "gsm9k; did you mean gsm8k?" in fault


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), torch.AcceleratorError),
        (torch.OutOfMemoryError("CUDA out of memory."), TaskFailed),
    ],
)
def test_a_gpu_that_is_lost_is_no_tasks_fault_but_its_memory_is(
    tasks: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, expected: type[Exception]
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise fault

    add(tasks, "plain", ROWS, **CHOICE)
    monkeypatch.setattr(Likelihood, "loglikelihood", failing)
    with pytest.raises(expected):
        asked("plain")
