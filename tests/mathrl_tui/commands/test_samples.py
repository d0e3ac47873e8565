"""`samples`: every task of an evaluation, and what was recorded while training."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mathrl_tui.cli import app
from mathrl_tui.commands.errors import WrongInput
from store.records import Example
from tests.support.fabricated import TASK
from tests.support.fabricated_results import DOCUMENTS, MMLU, RUN, results_run

FLIPS = {TASK: 48, f"{TASK}/chat/8-shot": 10, "mmlu": sum(MMLU["grpo"]), "arc": 12}  # base against grpo


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with results on several tasks, and completions recorded at the steps 1 to 3 of training."""
    home = tmp_path_factory.mktemp("home") / "artifacts"
    run = results_run(home)
    for step in (1, 2, 3):
        run.write(*(recorded(step, "train", f"train-{step}-{place}") for place in range(2)))
    for step in (0, 3):
        run.write(recorded(step, "validation", "validation-0", correct=step > 0))
        run.write(recorded(step, "validation", "validation-0", correct=False, arm="sft"))
    return home


def recorded(step: int, task: str, ex_id: str, correct: bool = False, arm: str = "grpo") -> Example:
    outcome = "correct" if correct else "wrong"
    return Example(
        arm, step, task, ex_id, 0, correct, float(correct), outcome, "2 + 3?", "#### 4", 3, "5", "4"
    )


def printed(home: Path, *arguments: str) -> str:
    """What the command prints, in this process. Raises what it raises."""
    done = CliRunner().invoke(app, ["samples", *arguments, "--home", str(home)], catch_exceptions=False)
    return done.stdout


def asked(home: Path, *arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(printed(home, *arguments, "--json"))["samples"]
    return rows


def test_flips_are_looked_for_in_every_task(home: Path) -> None:
    rows = asked(home, f"{RUN}/grpo", "--flips", "base", "--limit", "1000")
    assert Counter(row["task"] for row in rows) == FLIPS
    assert all(row["task"] == row["other"]["task"] and row["ex_id"] == row["other"]["ex_id"] for row in rows)
    text = printed(home, f"{RUN}/grpo", "--flips", "base")
    assert f"── {TASK} · {TASK}-8 · sample 1 · grpo@50 · correct" in text
    counts = ", ".join(f"{task}: {count}" for task, count in FLIPS.items())
    assert text.endswith(f"10 of {sum(FLIPS.values())} ({counts}); --limit N shows more\n")
    narrow = asked(home, f"{RUN}/grpo", "--flips", "base", "--task", "mmlu", "--limit", "1000")
    assert {row["task"] for row in narrow} == {"mmlu"} and len(narrow) == FLIPS["mmlu"]


def test_documents_with_a_likelihood_are_not_wrong(home: Path) -> None:
    everything = asked(home, f"{RUN}/base", "--limit", "10000")
    assert Counter(row["task"] for row in everything)["wikitext"] == DOCUMENTS
    wrong = asked(home, f"{RUN}/base", "--wrong", "--limit", "10000")
    assert "wikitext" not in {row["task"] for row in wrong} and not any(row["correct"] for row in wrong)


def test_completions_of_training_are_read_by_step(home: Path) -> None:
    def ids(*arguments: str) -> list[str]:
        return [row["ex_id"] for row in asked(home, f"{RUN}/grpo", "--split", *arguments)]

    assert ids("train") == ["train-3-0", "train-3-1"]  # the last step
    assert ids("train", "--step", "1") == ["train-1-0", "train-1-1"]
    assert ids("validation", "--step", "0") == ["validation-0"]
    (row,) = asked(home, f"{RUN}/grpo@3", "--split", "validation", "--flips", "sft")
    assert (row["step"], row["correct"], row["other"]["correct"]) == (3, True, False)
    text = printed(home, f"{RUN}/grpo@2", "--split", "train")
    assert "── train · train-2-0 · sample 0 · grpo@2 · wrong" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("grpo", "--split", "train", "--step", "9"), "no train completions at step 9; recorded: 1, 2, 3"),
        (
            ("base", "--split", "train"),
            "no train completions of arm base are recorded; arms that have some: grpo",
        ),
        (("grpo@2",), "no evaluation of arm grpo at step 2"),
        (("grpo@2",), "completions of its training: --split train or --split validation"),
        (("grpo", "--split", "train", "--task", "mmlu"), "only evaluations have tasks"),
        (("grpo", "--split", "train", "--flips", "sft"), "two arms train on different questions"),
    ],
)
def test_what_was_not_recorded_is_named(home: Path, arguments: tuple[str, ...], words: str) -> None:
    arm, *rest = arguments
    with pytest.raises(WrongInput) as error:
        printed(home, f"{RUN}/{arm}", *rest)
    assert words in str(error.value) and "\n" not in str(error.value)
