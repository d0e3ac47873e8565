"""The whole small pipeline on a real model, by the program's own commands: it ends done, with everything recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.support import real_model
from tests.support.command_line import mathrl

pytestmark = real_model.marks

QUESTIONS = 8
STEPS = 2


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home with one run in it; its checkpoints are large, so the folder goes when the tests end."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        real_model.write_rows(root / "rows")
        questions = [f"What is {number} + {number}?" for number in range(1, QUESTIONS + 1)]
        rows = [
            {"question": each, "answer": f"#### {2 * place}"} for place, each in enumerate(questions, start=1)
        ]
        (root / "rows" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        profile = root / "real.toml"
        profile.write_text(real_model.PROFILE)
        small = {
            "data.source": root / "rows",
            "sft.steps": STEPS,
            "sft.batch_size": 2,
            "sft.learning_rate": 1e-5,
            "sft.validate_every": 0,
            "preprocess.system_prompt": "",
            "grpo.steps": 1,
            "grpo.prompts_per_step": 2,
            "grpo.group_size": 2,
            "grpo.staleness": 0,
            "grpo.max_new_tokens": 16,
            "grpo.validate_every": 0,
            "eval.max_new_tokens": 16,
        }
        settings = [part for name, value in small.items() for part in ("--set", f"{name}={value}")]
        stages = ("data", "traces", "preprocess", "sft", "grpo", "eval")
        ran = mathrl(root / "home", "run", *stages, "--profile", profile, *settings, timeout=240)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        yield root / "home"


def reported(home: Path, *arguments: str) -> Any:
    """What a command prints with --json."""
    found = mathrl(home, *arguments, "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def measured(home: Path, metric: str) -> list[float]:
    """The recorded values of a metric, in the order of the steps."""
    query = f"SELECT value FROM scalar WHERE metric = '{metric}' ORDER BY step"
    return [value for (value,) in reported(home, "sql", query)["rows"]]


def test_the_run_is_done_and_every_question_is_judged(home: Path) -> None:
    (run,) = reported(home, "runs")["runs"]
    assert run["state"] == "done"
    judged = "SELECT arm, count(DISTINCT ex_id), sum(correct::INT) FROM eval_row"
    of_the_test = "WHERE starts_with(ex_id, 'test') GROUP BY arm ORDER BY arm"
    rows = reported(home, "sql", f"{judged} {of_the_test}")["rows"]
    assert [(arm, count) for arm, count, _ in rows] == [(arm, QUESTIONS) for arm in ("base", "grpo", "sft")]
    assert all(correct >= 4 for *_, correct in rows), "it adds small numbers, and two steps do not unlearn it"


def test_the_loss_is_that_of_a_real_model(home: Path) -> None:
    losses = measured(home, "sft/train/loss")
    assert len(losses) == STEPS
    assert all(0.1 < loss < 3.0 for loss in losses)


def test_the_sampler_and_the_trainer_hold_the_same_model(home: Path) -> None:
    (difference,) = measured(home, "grpo/sampling/logprob_difference/max")
    assert 0.0 < difference < 1e-4


def test_the_checkpoint_is_a_model_for_transformers(home: Path) -> None:
    (folder,) = (home / "runs").glob("*/checkpoints/sft/step_*")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    answer = model.generate(prompt, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, prompt.shape[1] :])
