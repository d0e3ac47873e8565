"""The regression watch from end to end: all seven tasks on real rows, through supervisor, trainer and worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest

from engine.data.tiny_model import make_model, make_tokenizer
from engine.lm_eval_suite.evaluate import evaluate
from engine.plan import STAGES
from engine.protocol.messages import SuiteTask
from engine.startup import launch
from profiles.load import load
from profiles.training import Pretrain
from store.comparison import run_comparisons
from store.home import RunFolder
from store.journal import read
from store.query import Store
from store.records import LOGLIKELIHOOD, Event, Example
from tests.support import places
from tests.support.small_experiment import bars, examples, finish, until

SHARED = places.SHARED / "data"
SUITE = ("arc_challenge", "hellaswag", "hendrycks_math", "mmlu", "truthfulqa_mc2", "wikitext", "winogrande")
BROKEN = "winogrande"  # the task whose rows cannot be read in the second run
PROFILE = """
name = "suite"
[model]
source = "{model}"
compute_dtype = "float32"
[hardware]
trainer = "cpu"
worker = "cpu"
generator = "transformers"
trainer_threads = 1
worker_threads = 1
max_model_len = 640
trainer_restarts = 3
[data]
source = "{shared}/gsm8k"
train_limit = 16
validation_rows = 4
test_limit = 6
[traces]
source = "solutions"
[preprocess]
template = "plain"
system_prompt = ""
max_tokens = 256
[sft]
steps = 2
batch_size = 4
learning_rate = 1e-2
validate_every = 0
checkpoint_every = 0
[grpo]
max_new_tokens = 6
[eval]
max_new_tokens = 6
shots = [0, 1]
suite = [{suite}]
suite_data = "{shared}/lm_eval"
suite_shots = 1
suite_limit = 2
window = 640
resamples = 1000
[[arms]]
name = "base"
stage = "none"
[[arms]]
name = "sft"
stage = "sft"
parent = "base"
"""

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.is_dir(), reason="MATHRL_SHARED names no folder with the real rows"),
]

Rows = dict[tuple[str, str, str], tuple[float, str, str]]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("suite")
    tokenizer = make_tokenizer(512)
    make_model(Pretrain(width=64, heads=2, key_value_heads=1, layers=1), tokenizer, 0).save_pretrained(
        folder / "model"
    )
    tokenizer.save_pretrained(folder / "model")
    path = folder / "suite.toml"
    names = ", ".join(f'"{name}"' for name in SUITE)
    path.write_text(PROFILE.format(model=folder / "model", shared=SHARED, suite=names))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        yield path


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite's rows, but for one task whose file is damaged."""
    folder = tmp_path_factory.mktemp("rows")
    for task in SUITE:
        (folder / task).symlink_to(SHARED / "lm_eval" / task)
    (folder / BROKEN).unlink()
    (folder / BROKEN).mkdir()
    for split in ("train", "validation"):
        (folder / BROKEN / f"{split}.jsonl").write_text('{"sentence": "The _ broke."}\n')
    return folder


def start(home: Path, profile: Path, *settings: str) -> RunFolder:
    stages = [stage for stage in STAGES if stage != "grpo"]
    return RunFolder(home, launch.start_run(home, load(str(profile), settings), stages, 7))


@pytest.fixture(scope="module")
def straight(profile: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = start(tmp_path_factory.mktemp("straight"), profile)
    finish(folder)
    return folder


def judged(folder: RunFolder) -> Rows:
    """Every evaluation row: score, outcome and output by arm, task and document."""
    found: list[Example] = examples(folder)
    rows = {(row.arm, row.task, row.ex_id): (row.score, row.outcome, row.output) for row in found}
    assert len(rows) == len(found)  # none twice
    return rows


def events(folder: RunFolder) -> list[Event]:
    return [record for record in read(folder.journal)[0] if isinstance(record, Event)]


def marks(folder: RunFolder) -> dict[str, int]:
    """Finished units, and when."""
    found = (folder.path / "finished" / "tasks").glob("[!.]*")  # not one that is being written
    return {mark.name: mark.stat().st_mtime_ns for mark in found}


def test_every_task_has_a_row_a_document_for_both_arms(straight: RunFolder) -> None:
    store = Store(straight.home)
    store.ingest()
    assert store.status(straight.run_id).state == "done"
    rows = judged(straight)
    counts = {arm: {task: 0 for _, task, _ in rows} for arm in ("base", "sft")}
    for arm, task, _ in rows:
        counts[arm][task] += 1
    own = {"gsm8k": 6, "gsm8k/1-shot": 6}
    beside = ("arc_challenge/acc_norm", "hellaswag/acc_norm", "hendrycks_math/math_verify")
    suite = dict.fromkeys((*SUITE, *beside), 2)
    assert counts["base"] == counts["sft"] == own | suite
    leaves = {ex_id.partition(":")[0] for _, task, ex_id in rows if task == "mmlu"}
    assert len(leaves) == 2  # a limit is spread over the subjects
    perplexities = {row.task for row in examples(straight) if row.outcome == LOGLIKELIHOOD}
    assert perplexities == {"wikitext"}
    written = [row for row in examples(straight) if row.task.startswith("hendrycks_math")]
    assert all(0 < row.tokens <= 6 for row in written)  # the limit of the profile
    assert "truncated" in {row.outcome for row in written if row.tokens == 6}
    fractions = [score for (_, task, _), (score, _, _) in rows.items() if task == "truthfulqa_mc2"]
    assert any(0.0 < score < 1.0 for score in fractions)


def test_no_log_of_the_suite_holds_a_progress_bar(straight: RunFolder) -> None:
    assert bars(straight) == []


def test_the_few_shot_examples_are_named(straight: RunFolder) -> None:
    told = [event for event in events(straight) if event.kind == "input" and event.stage == "eval"]
    assert [event.payload["task"] for event in told] == ["gsm8k/1-shot"]
    (shot,) = told[0].payload["shots"]
    assert shot.startswith("train")
    asked = next(row.prompt for row in examples(straight) if row.task == "gsm8k/1-shot")
    assert asked.count("Question:") == 2


@pytest.fixture(scope="module")
def killed(profile: Path, damaged: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose worker and whose trainer were killed in the middle of the suite; its units were done but once."""
    folder = start(tmp_path_factory.mktemp("killed"), profile, f"eval.suite_data={damaged}")
    for role, reached in (("worker", 6), ("trainer", 9)):
        until(lambda: len(marks(folder)) >= reached, f"{reached} units are done")  # noqa: B023
        done = marks(folder)
        pid = pid_of(folder, role)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid_of(folder, role) not in (None, pid), f"the {role} is back")  # noqa: B023
    finish(folder)
    after = marks(folder)
    assert len(after) == 16
    assert {name: after[name] for name in done} == done
    return folder


def test_a_run_that_was_killed_in_the_suite_has_the_same_rows(straight: RunFolder, killed: RunFolder) -> None:
    expected = {place: row for place, row in judged(straight).items() if place[1] != BROKEN}
    assert judged(killed) == expected


def test_a_task_that_fails_is_named_and_leaves_the_others(killed: RunFolder) -> None:
    told = [event for event in events(killed) if event.kind == "log" and "suite task failed" in event.message]
    assert {event.arm for event in told} == {"base", "sft"}
    assert all(f"{BROKEN}: " in event.message for event in told)
    status = Store(killed.home).status(killed.run_id)
    assert status.state == "done_with_failures"
    assert (
        status.reason.startswith("eval: 2 of 14 suite tasks failed: winogrande: ")
        and "(base, sft)" in status.reason
    )
    assert [step.status for step in status.stages if step.stage == "eval"] == ["incomplete"]
    assert not any(name.endswith(BROKEN) for name in marks(killed))


def test_a_resume_repeats_only_what_failed(straight: RunFolder, killed: RunFolder, damaged: Path) -> None:
    done = marks(killed)
    for name in ("train", "validation"):
        (damaged / BROKEN / f"{name}.jsonl").unlink()
        (damaged / BROKEN / f"{name}.jsonl").symlink_to(SHARED / "lm_eval" / BROKEN / f"{name}.jsonl")
    launch.resume_run(killed.home, killed.run_id)
    finish(killed)
    assert Store(killed.home).status(killed.run_id).state == "done"
    after = marks(killed)
    assert {name: after[name] for name in done} == done
    assert {name.rpartition("-")[2] for name in after.keys() - done.keys()} == {BROKEN}
    assert judged(killed) == judged(straight)


def test_perplexity_and_fractions_are_compared_as_what_they_are(straight: RunFolder) -> None:
    store = Store(straight.home)
    store.ingest()
    found = {row.task: row for row in run_comparisons(store, straight.run_id)}
    assert found["wikitext"].measure == "perplexity"
    assert found["wikitext"].a_rate > 1.0
    assert {row.measure for task, row in found.items() if task != "wikitext"} == {"accuracy"}
    shown = {row.task: row for row in store.evaluations(straight.run_id) if row.arm == "base"}
    assert shown["wikitext"].rate == pytest.approx(found["wikitext"].a_rate)
    assert shown["truthfulqa_mc2"].rate == pytest.approx(found["truthfulqa_mc2"].a_rate)


def pid_of(folder: RunFolder, role: str) -> int | None:
    """The living process of `role`, by the record."""
    store = Store(folder.home)
    store.ingest()
    found = [each for each in store.status(folder.run_id).processes if each.role == role and each.alive]
    return found[-1].pid if found else None


def test_templates_are_compiled_once_for_a_task_and_not_for_a_document(
    profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.models.dummy import DummyLM

    compiled: list[str] = []
    compile_one = jinja2.Environment.compile

    def counted(environment: jinja2.Environment, source: str, *rest: Any, **options: Any) -> Any:
        compiled.append(source)
        return compile_one(environment, source, *rest, **options)

    monkeypatch.setattr(jinja2.Environment, "compile", counted)
    task = SuiteTask("hellaswag", "hellaswag", 2, 30, 8, 0, 0, str(SHARED / "lm_eval"))
    model = DummyLM()
    model.generated, model.max_length, model.asked = {}, 64, lambda context, continuation: (context, 0)
    rows = list(evaluate(model, task, "base", 0))
    assert len({row.ex_id for row in rows}) == 30
    assert len(compiled) == len(set(compiled)) < 6
