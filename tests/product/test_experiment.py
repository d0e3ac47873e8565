"""The experiment through the real engine: it learns, its record is whole, kills leave no mark on its numbers."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from engine.artifacts.arms import checkpoints
from engine.artifacts.finished import mark_of
from engine.startup import launch
from store.comparison import run_comparisons
from store.home import RunFolder
from store.query import Store
from tests.support.small_experiment import bars, examples, finish, make_inputs, scalars, start, until

TRAINED = ("train/loss", "train/grad_norm", "train/entropy", "reward/mean", "ratio/max", "val/pass_at_1")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def straight(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that nothing disturbed."""
    folder = start(tmp_path_factory.mktemp("straight"), inputs)
    finish(folder)
    return folder


def curves(folder: RunFolder) -> dict[tuple[str, int], float]:
    """Everything of a run's metrics that does not depend on the clock."""
    return {(row.metric, row.step): row.value for row in scalars(folder) if row.metric.endswith(TRAINED)}


def test_every_stage_ends_and_every_question_is_judged(straight: RunFolder) -> None:
    store = Store(straight.home)
    store.ingest()
    (run,) = store.runs()
    assert run.state == "done", run.reason
    held_out = [
        json.loads(line)["question"] for line in (straight.home.parent / "inputs0/rows/test.jsonl").open()
    ]
    rows = Counter((row.arm, row.task) for row in examples(straight) if row.task == "rows")
    assert rows == {(arm, "rows"): len(held_out) for arm in ("base", "sft", "sft+grpo")}
    identities = Counter((e.arm, e.step, e.task, e.ex_id, e.sample) for e in examples(straight))
    assert max(identities.values()) == 1


def test_no_log_holds_a_progress_bar(straight: RunFolder) -> None:
    assert {path.name for path in straight.logs.iterdir()} >= {"trainer.log", "worker.log"}
    assert bars(straight) == []


def test_sft_learns_and_the_comparison_says_so(straight: RunFolder) -> None:
    store = Store(straight.home)
    store.ingest()
    by_pair = {(row.a, row.b): row for row in run_comparisons(store, straight.run_id)}
    learned = by_pair["base", "sft"]
    judged = [row for row in examples(straight) if row.task == "rows"]
    counted = {arm: sum(row.correct for row in judged if row.arm == arm) for arm in ("base", "sft")}
    assert learned.b_rate == pytest.approx(counted["sft"] / learned.n)
    assert learned.difference == pytest.approx((counted["sft"] - counted["base"]) / learned.n)
    assert learned.ci_low > 0.0


def test_training_saw_the_sampler_through_its_own_eyes(straight: RunFolder) -> None:
    # On a CPU both compute in float32, so log-probs differ by rounding alone where no update lies between them.
    name = "sft+grpo/sampling/logprob_difference/max"
    first = next(row for row in scalars(straight) if row.metric == name)
    assert 0.0 <= first.value < 1e-4
    stale = [row.value for row in scalars(straight) if row.metric == "sft+grpo/staleness"]
    assert stale == [0.0] + [1.0] * 7
    ratios = [row.value for row in scalars(straight) if row.metric == "sft+grpo/ratio/max"]
    assert max(ratios[1:]) > 1.0 + 1e-4


@pytest.mark.parametrize("role", ["trainer", "worker", "supervisor"])
def test_a_run_that_was_killed_and_resumed_has_the_same_numbers(
    role: str, straight: RunFolder, inputs: Path, tmp_path: Path
) -> None:
    folder = start(tmp_path, inputs)
    chance = random.Random(role)
    for moment in sorted(chance.sample(range(1, 160), int(os.environ.get("MATHRL_KILLS", "1")))):
        until(partial(reached, folder, moment), "there is progress")
        pid = pid_of(folder, role)
        if pid is None:
            break  # the run has ended
        os.kill(pid, signal.SIGKILL)
        if role == "supervisor":
            until(lambda: not launch.is_alive(tmp_path, folder.run_id), "the supervisor is gone")
            launch.resume_run(tmp_path, folder.run_id)
        else:
            until(partial(is_replaced, folder, role, pid), "it is back, or the run has ended")
    finish(folder)
    assert Store(tmp_path).status(folder.run_id).state == "done"
    assert curves(folder) == curves(straight)
    judged = {(e.arm, e.task, e.ex_id, e.sample): e.output for e in examples(straight)}
    assert {(e.arm, e.task, e.ex_id, e.sample): e.output for e in examples(folder)} == judged
    assert len(examples(folder)) == len(examples(straight))


def test_a_resume_trains_a_finished_arm_again_whose_last_checkpoint_is_damaged(
    straight: RunFolder, tmp_path: Path
) -> None:
    """The arm after it finds the damage. One resume ends with the numbers of the undisturbed run."""
    shutil.copytree(straight.home, tmp_path / "home", symlinks=True)
    folder = RunFolder(tmp_path / "home", straight.run_id)
    last = checkpoints(folder, "sft")[-1]
    expected = (last / "model.safetensors").read_bytes()
    (last / "model.safetensors").write_bytes(expected[:-1] + bytes([expected[-1] ^ 4]))
    shutil.rmtree(folder.checkpoints("sft+grpo"))
    shutil.rmtree(folder.path / "finished" / "tasks")
    for label in ("sft+grpo", "eval"):
        mark_of(folder, label).unlink()
    launch.resume_run(folder.home, folder.run_id)
    finish(folder)
    store = Store(folder.home)
    store.ingest()
    status = store.status(folder.run_id)
    assert (status.state, {stage.status for stage in status.stages}) == ("done", {"finished"})
    assert (last / "model.safetensors").read_bytes() == expected
    assert [path.name for path in folder.checkpoints("sft").glob("damaged-*")] == [f"damaged-{last.name}"]
    assert curves(folder) == curves(straight)
    rows = Counter((e.arm, e.step, e.task, e.ex_id, e.sample, e.output) for e in examples(folder))
    assert rows == Counter((e.arm, e.step, e.task, e.ex_id, e.sample, e.output) for e in examples(straight))
    assert max(rows.values()) == 1


def reached(folder: RunFolder, moment: int) -> bool:
    """True once the run has done so many training steps, or has ended."""
    return steps_done(folder) >= moment or not launch.is_alive(folder.home, folder.run_id)


def is_replaced(folder: RunFolder, role: str, pid: int) -> bool:
    """True once another process than `pid` plays `role`, or the run has ended."""
    return pid_of(folder, role) not in (None, pid) or not launch.is_alive(folder.home, folder.run_id)


def steps_done(folder: RunFolder) -> int:
    """Training steps in the journal, over all arms."""
    return sum(row.metric.endswith("train/loss") for row in scalars(folder))


def pid_of(folder: RunFolder, role: str) -> int | None:
    """The living process of `role`, by the record."""
    store = Store(folder.home)
    store.ingest()
    found = [
        process for process in store.status(folder.run_id).processes if process.role == role and process.alive
    ]
    return found[-1].pid if found else None
