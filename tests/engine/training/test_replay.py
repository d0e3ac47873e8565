"""Recorded rollouts come back as they were, and are replaced whole."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.context import StageFailed
from engine.data.recorded import PRUNED, missing_rollouts, recorded_steps, step_path
from engine.data.sequence import TokenSequence
from engine.training import replay
from engine.training.replay import Rollouts
from engine.training.rollout_recorder import RolloutRecorder
from profiles.training import Grpo
from tests.support.command_line import environment
from tests.support.places import ROOT

ROLLOUTS = Rollouts(
    step=12,
    version=11,
    ex_ids=["train-3", "train-ü"],
    sequences=[
        TokenSequence(np.array([5, 6, 7, 0], np.int32), 2, True),
        TokenSequence(np.array([5, 151_935], np.int32), 1, False),
    ],
    logprobs=[np.array([-0.25, -1e-7], np.float32), np.array([-13.5], np.float32)],
    rewards=np.array([1.0, 0.0]),
    advantages=np.array([0.7, -0.7]),
    group_size=2,
)


def test_what_is_read_is_what_was_recorded(tmp_path: Path) -> None:
    replay.record(tmp_path / "grpo", ROLLOUTS)
    found = replay.read(tmp_path / "grpo", 12)
    assert (found.step, found.version, found.ex_ids) == (12, 11, ["train-3", "train-ü"])
    assert found.group_size == 2
    for ours, theirs in zip(found.sequences, ROLLOUTS.sequences, strict=True):
        assert np.array_equal(ours.token_ids, theirs.token_ids) and ours.token_ids.dtype == np.int32
        assert (ours.prompt_length, ours.finished) == (theirs.prompt_length, theirs.finished)
    for name in ("logprobs", "rewards", "advantages"):
        for mine, theirs in zip(getattr(found, name), getattr(ROLLOUTS, name), strict=True):
            assert np.array_equal(mine, theirs)


def test_a_step_recorded_again_replaces_the_old_and_leaves_no_draft(tmp_path: Path) -> None:
    replay.record(tmp_path, ROLLOUTS)
    replay.record(tmp_path, replace(ROLLOUTS, rewards=np.array([0.5, 0.5])))
    replay.record(tmp_path, replace(ROLLOUTS, step=3))
    assert replay.read(tmp_path, 12).rewards.tolist() == [0.5, 0.5]
    assert recorded_steps(tmp_path) == [3, 12]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_step_that_was_not_recorded_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="update_000004.npz"):
        replay.read(tmp_path, 4)


def test_a_record_that_counted_from_zero_is_read_and_can_go_on(tmp_path: Path) -> None:
    """An older version wrote step 11 of its own count, the 12th update, as step_000011 with `step` 11 in it."""
    replay.record(tmp_path, replace(ROLLOUTS, step=11))
    step_path(tmp_path, 11).rename(tmp_path / "step_000011.npz")
    replay.record(tmp_path, replace(ROLLOUTS, step=13))
    assert recorded_steps(tmp_path) == [12, 13]
    assert [replay.read(tmp_path, step).step for step in (12, 13)] == [12, 13]
    with pytest.raises(FileNotFoundError, match="update_000011"):
        replay.read(tmp_path, 11)
    again = replace(ROLLOUTS, rewards=np.array([0.5, 0.5]))  # as a run that is resumed before its end does
    replay.record(tmp_path, again)
    assert replay.read(tmp_path, 12).rewards.tolist() == [0.5, 0.5]
    assert recorded_steps(tmp_path) == [12, 13]


def test_a_record_with_a_pickle_in_it_is_refused(tmp_path: Path) -> None:
    replay.record(tmp_path, ROLLOUTS)
    path = step_path(tmp_path, ROLLOUTS.step)
    with np.load(path) as file:
        columns = dict(file)
    np.savez(path, **columns | {"ex_ids": np.array([{"any": "object"}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        replay.read(tmp_path, ROLLOUTS.step)


def sampled(step: int, tokens: int = 400, completions: int = 16) -> Rollouts:
    """Rollouts of random tokens; their log-probs have every bit pattern that sampling gives."""
    rng = np.random.default_rng(step)
    ids = [rng.integers(0, 151_936, tokens).astype(np.int32) for _ in range(completions)]
    return Rollouts(
        step=step,
        version=step - 1,
        ex_ids=[f"train-{place // 8:05d}" for place in range(completions)],
        sequences=[TokenSequence(each, 40, True) for each in ids],
        logprobs=[-rng.exponential(1.0, tokens - 40).astype(np.float32) for _ in ids],
        rewards=np.ones(completions),
        advantages=np.zeros(completions),
        group_size=8,
    )


def test_a_record_of_an_older_version_is_read_as_it_was_and_takes_more_room(tmp_path: Path) -> None:
    rollouts = sampled(5)
    replay.record(tmp_path, rollouts)
    with np.load(step_path(tmp_path, 5)) as file:
        columns = {name: file[name] for name in file.files if name != replay.PLANES}
    older = tmp_path / "older"
    older.mkdir()
    np.savez_compressed(step_path(older, 5), logprobs=np.concatenate(rollouts.logprobs), **columns)
    found = replay.read(older, 5)
    for folder in (tmp_path, older):
        found = replay.read(folder, 5)
        assert all(map(np.array_equal, found.logprobs, rollouts.logprobs))
        assert {each.dtype for each in found.logprobs} == {np.dtype(np.float32)}
    assert step_path(tmp_path, 5).stat().st_size < step_path(older, 5).stat().st_size


def test_the_oldest_steps_go_when_the_budget_is_spent_and_the_refusal_names_them(tmp_path: Path) -> None:
    folder = tmp_path / "rollouts" / "grpo"
    replay.record(folder, sampled(1))
    size = step_path(folder, 1).stat().st_size
    recorder = RolloutRecorder(folder, 3.5 * size / 1e9)
    for step in range(2, 8):
        recorder.record(sampled(step))
    recorder.wait()
    assert recorded_steps(folder) == [5, 6, 7]
    assert [replay.read(folder, step).step for step in (5, 6, 7)] == [5, 6, 7]
    line = missing_rollouts(tmp_path, Grpo(replay=str(tmp_path), steps=7), ["grpo"])
    assert line == (
        f"grpo.replay {tmp_path}: steps 1 to 4 of arm grpo were removed to keep within grpo.rollouts_gb = "
        f"{3.5 * size / 1e9:g}; choose a run that was recorded with --set grpo.rollouts_gb=0, which keeps all"
    )


def test_a_resumed_run_counts_what_is_there_and_the_newest_step_stays_whatever_its_size(
    tmp_path: Path,
) -> None:
    for step in range(1, 6):
        replay.record(tmp_path, sampled(step))
    resumed = RolloutRecorder(tmp_path, 1e-9)  # one byte
    resumed.record(sampled(4))  # the checkpoint was of step 3
    resumed.wait()
    assert recorded_steps(tmp_path) == [4, 5]
    resumed.record(sampled(5))
    resumed.wait()
    assert recorded_steps(tmp_path) == [5]


def test_without_a_bound_everything_stays(tmp_path: Path) -> None:
    recorder = RolloutRecorder(tmp_path, 0.0)
    for step in range(1, 4):
        recorder.record(sampled(step))
    recorder.wait()
    assert recorded_steps(tmp_path) == [1, 2, 3] and not (tmp_path / PRUNED).exists()


def test_a_disk_without_room_fails_the_stage_and_leaves_no_draft(tmp_path: Path) -> None:
    recorder = RolloutRecorder(tmp_path, 0.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        recorder.record(sampled(1))
        with pytest.raises(
            StageFailed, match=f"{tmp_path}: rollouts cannot be recorded: File too large; make room"
        ):
            recorder.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


RECORDS = """
import sys
from pathlib import Path
from engine.training.rollout_recorder import RolloutRecorder
from tests.engine.training.test_replay import sampled
recorder = RolloutRecorder(Path(sys.argv[1]), float(sys.argv[2]))
for step in range(1, 1000):
    recorder.record(sampled(step))
    print(step, flush=True)
"""


def test_whoever_is_killed_leaves_whole_steps_without_a_gap(tmp_path: Path) -> None:
    folder = tmp_path / "grpo"
    replay.record(folder, sampled(1))
    budget = 3.5 * step_path(folder, 1).stat().st_size / 1e9
    for reported in (5, 9):
        process = subprocess.Popen(
            [sys.executable, "-c", RECORDS, folder, str(budget)],
            cwd=ROOT,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(reported):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        steps = recorded_steps(folder)
        assert steps == list(range(steps[0], steps[-1] + 1)) and steps[-1] >= reported - 1
        assert [replay.read(folder, step).step for step in steps] == steps
        assert len(steps) <= 5
