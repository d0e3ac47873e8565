"""Which tasks an evaluation asks, and how its answer reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.context import StageFailed, StageIncomplete
from engine.lm_eval_suite.units import units
from engine.protocol.messages import (
    Completion,
    Job,
    JobDone,
    JobFailed,
    SuiteTask,
    WeightRef,
    Work,
    WorkerResult,
)
from engine.stages import stage
from engine.stages.eval import is_long, tasks
from mathrl_tui.commands.report import results
from profiles.load import load
from store.records import Event, Example, Record
from tests.engine.stages.test_preprocess import make_tokenizer, run_all
from tests.store import test_measures as measures
from tests.support.stage_context import gsm_row, lines_of, make_context, write_source


def test_every_form_and_split_is_a_task_of_its_own(tmp_path: Path) -> None:
    settings = ["data.platinum=true", 'eval.suite=["gsm8k", "wikitext", "gsm8k"]', "eval.suite_limit=7"]
    context, _ = make_context(tmp_path, load("qwen2.5-math-1.5b", settings))
    forms = ("", "/8-shot", "/plain", "/plain/8-shot")
    assert [(task.name, task.split) for task in tasks(context)] == [
        *((f"gsm8k{form}", "test") for form in forms),
        *((f"gsm8k-platinum{form}", "platinum") for form in forms),
    ]
    arm = context.profile.arms[0]
    found = units(context, [(arm, WeightRef("base", 0, "x"))], [task.name for task in tasks(context)])
    assert [(unit.task.name, unit.task.recorded, unit.task.documents) for unit in found] == [
        ("gsm8k", "gsm8k/lm-eval", 7),
        ("wikitext", "wikitext", 7),
    ]
    assert (
        len(
            {unit.label for unit in found}
            | {f"base-{task.name.replace('/', '-')}" for task in tasks(context)}
        )
        == 10
    )


def test_few_shot_examples_of_the_suite_do_not_follow_the_runs_seed(tmp_path: Path) -> None:
    def task(run_seed: int, data_seed: int) -> SuiteTask:
        profile = load("demo", ['eval.suite=["hellaswag"]', f"data.seed={data_seed}"])
        context, _ = make_context(tmp_path, profile, seed=run_seed)
        (unit,) = units(context, [(profile.arms[0], WeightRef("base", 0, "x"))], [])
        return unit.task

    assert task(0, 0).shots_seed == task(1, 0).shots_seed != task(0, 1).shots_seed
    assert task(0, 0).seed != task(1, 0).seed


def test_another_copy_of_the_model_is_started_only_for_much_to_ask(tmp_path: Path) -> None:
    questions = [gsm_row(n) for n in range(16)]
    source = write_source(tmp_path / "source", questions[:6], questions[6:])
    model = make_tokenizer(tmp_path / "model", [row["question"] for row in questions], 300)
    context, _ = run_all(tmp_path / "home", model, source)

    def is_long_for(arms: list[str], **settings: object) -> bool:
        evaluation = context.profile.eval.model_copy(update=settings)
        profile = context.profile.model_copy(update={"eval": evaluation})
        asked = [(profile.arm(name), WeightRef(name, 0, "x")) for name in arms]
        return is_long(replace(context, profile=profile), asked)

    assert not is_long_for(["base", "sft"], samples=499, suite=())  # of 10 questions for each arm
    assert is_long_for(["base", "sft"], samples=500, suite=())
    assert not is_long_for(["base"], samples=500, suite=())
    assert is_long_for(["base"], samples=1, suite=("mmlu",))


class Halting:
    """A `Generation` that gives one completion at every fifth look."""

    def __init__(self) -> None:
        self.left: list[WorkerResult] = []
        self.looks = 0

    def next_job_id(self) -> int:
        return 1

    def submit(self, job: Work) -> None:
        assert isinstance(job, Job)
        ids, logprobs = np.zeros(1, np.int32), np.zeros(1, np.float32)
        for prompt in job.prompts:
            place = (job.job_id, job.kind, job.weights.version, prompt.index, 0)
            self.left.append(Completion(*place, ids, logprobs, "stop", "1", "correct", "1"))
        kept = tuple(prompt.index for prompt in job.prompts)
        self.left.append(JobDone(job.job_id, job.kind, job.weights.version, kept, 1, 1, 0.1, 0.0, 0.0))

    def poll(self, timeout: float) -> list[WorkerResult]:
        self.looks += 1
        return [] if self.looks % 5 else [self.left.pop(0)]


def test_progress_is_told_only_where_it_moves(tmp_path: Path) -> None:
    """Told again while it waits, it would hide from the console that nothing answers any more."""
    questions = [gsm_row(n) for n in range(16)]
    source = write_source(tmp_path / "source", questions[:6], questions[6:])
    model = make_tokenizer(tmp_path / "model", [row["question"] for row in questions], 300)
    context, told = run_all(tmp_path / "home", model, source)
    evaluation = context.profile.eval.model_copy(update={"suite": (), "shots": (0,), "templates": ()})
    profile = context.profile.model_copy(update={"eval": evaluation})
    stage("eval")(replace(context, profile=profile, stage="eval", generation=Halting()))
    progress = [event for event in lines_of(told, "progress") if event.stage == "eval"]
    assert [event.payload["done"] for event in progress] == [*range(11), 10]  # and when all is recorded


class Refusing(Halting):
    """Answers the jobs whose number is not among `refused`."""

    def __init__(self, refused: tuple[int, ...]) -> None:
        super().__init__()
        self.refused, self.asked = refused, 0

    def next_job_id(self) -> int:
        self.asked += 1
        return self.asked

    def submit(self, job: Work) -> None:
        if job.job_id in self.refused:
            self.left.append(JobFailed(job.job_id, job.kind, "WeightsRefused: a bad file"))
        else:
            super().submit(job)

    def poll(self, timeout: float) -> list[WorkerResult]:
        return [self.left.pop(0)] if self.left else []


def test_a_task_that_fails_leaves_the_others_and_is_repeated_alone(tmp_path: Path) -> None:
    questions = [gsm_row(n) for n in range(16)]
    source = write_source(tmp_path / "source", questions[:12], questions[12:])
    model = make_tokenizer(tmp_path / "model", [row["question"] for row in questions], 300)
    settings = ("eval.shots=[0, 1]", "eval.suite=[]")
    context, told = run_all(tmp_path / "home", model, source, *settings)
    context = replace(context, stage="eval")

    def evaluate(refused: tuple[int, ...]) -> Refusing:
        worker = Refusing(refused)
        stage("eval")(replace(context, generation=worker))
        return worker

    with pytest.raises(
        StageFailed, match=r"^nothing was measured: 2 of 2 tasks failed: source: .*; source/1-shot: "
    ):
        evaluate((1, 2))
    fault = r"^1 of 2 tasks failed: source: WeightsRefused: a bad file \(base\)$"
    with pytest.raises(StageIncomplete, match=fault):
        evaluate((1,))
    assert {row.task for row in told if isinstance(row, Example)} == {"source/1-shot"}
    assert evaluate(()).asked == 1
    assert {row.task for row in told if isinstance(row, Example)} == {"source", "source/1-shot"}


def test_the_answer_names_samples_perplexity_watch_and_worked_examples(tmp_path: Path) -> None:
    rows: list[Record] = []
    for arm, shift in (("base", 0.0), ("sft", 0.1)):
        rows += [measures.document(arm, n, score) for n, score in enumerate(measures.likelihoods(shift))]
        rows += [measures.answer(arm, "gsm8k", n, float(s < 2), s, "7") for n in range(4) for s in range(4)]
        rows += [measures.answer(arm, "arc", n, float(n % 2)) for n in range(50)]
    message = "gsm8k/1-shot: worked examples train-4"
    rows.append(Event("input", message, "eval", payload={"task": "gsm8k/1-shot", "shots": ["train-4"]}))
    text = results(measures.journaled(tmp_path, rows, "base", "sft"), "r")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert any(line.startswith("base gsm8k 5 4 50.0 %") and "4 100.0 %" in line for line in lines)
    assert any(line.startswith("base wikitext 5 8 ppl ") for line in lines)
    assert any(line.startswith("base sft wikitext 8 ppl ") and "+10.5 %" in line for line in lines)
    assert any(line.startswith("wikitext sft +10.5 %") and line.endswith("lost") for line in lines)
    assert any(line.startswith("arc sft") and line.endswith("unclear") for line in lines)
    assert message in lines
