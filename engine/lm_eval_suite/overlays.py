"""Local rows for lm-eval's own tasks: one YAML file per leaf task.

An overlay has the task's own name, includes its definition, and reads JSONL files. So prompts and metrics are
lm-eval's, and only the rows are local. The files are DATA/arc_challenge/test.jsonl and so on; MMLU and MATH
have a folder per subject.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

MATH_SUBJECTS = {
    "algebra": "algebra",
    "counting_and_probability": "counting_and_prob",
    "geometry": "geometry",
    "intermediate_algebra": "intermediate_algebra",
    "number_theory": "num_theory",
    "prealgebra": "prealgebra",
    "precalculus": "precalc",
}
SINGLE_TASKS = {
    "arc_challenge": "arc/arc_challenge.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2.yaml",
    "wikitext": "wikitext/wikitext.yaml",
    "winogrande": "winogrande/default.yaml",
}
# Folders in which lm-eval defines these tasks and the groups `hendrycks_math` and `mmlu`.
FOLDERS = ("arc", "hellaswag", "hendrycks_math", "mmlu/default", "truthfulqa", "wikitext", "winogrande")
# A task without a local training split takes its worked examples from this split.
FEW_SHOT_SPLITS = {"arc_challenge": "validation"}


@dataclass(frozen=True, slots=True)
class LeafTask:
    """An lm-eval task without subtasks, and the local rows for it.

    Attributes:
        task: its name.
        definition: path of its YAML file within lm-eval's tasks.
        rows: folder of the local rows.
    """

    task: str
    definition: str
    rows: Path


def write_overlays(data: Path, folder: Path) -> list[str]:
    """Write an overlay for every leaf task with rows under `data`.

    The overlays are written into `folder`.
    Returns: the tasks' names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for leaf in _leaves(data):
        (folder / f"{leaf.task}.yaml").write_text(yaml.safe_dump(_overlay(leaf)), encoding="utf-8")
        names.append(leaf.task)
    return names


def _leaves(data: Path) -> Iterator[LeafTask]:
    for task, definition in SINGLE_TASKS.items():
        if (data / task).is_dir():
            yield LeafTask(task, definition, data / task)
    for folder, subject in MATH_SUBJECTS.items():
        rows = data / "hendrycks_math" / folder
        if rows.is_dir():
            task = f"hendrycks_math_{subject}"
            yield LeafTask(task, f"hendrycks_math/{task}.yaml", rows)
    for rows in sorted((data / "mmlu").glob("*/")):
        task = f"mmlu_{rows.name}"
        yield LeafTask(task, f"mmlu/default/{task}.yaml", rows)


def _overlay(leaf: LeafTask) -> dict[str, Any]:
    files = {path.stem: str(path.absolute()) for path in sorted(leaf.rows.glob("*.jsonl"))}
    overlay: dict[str, Any] = {
        "include": str(definitions() / leaf.definition),
        "task": leaf.task,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
    }
    for split, field in (
        ("train", "training_split"),
        ("validation", "validation_split"),
        ("test", "test_split"),
    ):
        overlay[field] = split if split in files else None
    if leaf.task in FEW_SHOT_SPLITS:
        overlay["fewshot_split"] = FEW_SHOT_SPLITS[leaf.task]
    return overlay


def definitions() -> Path:
    """Return lm-eval's folder of tasks without importing lm-eval."""
    spec = find_spec("lm_eval")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "tasks"
