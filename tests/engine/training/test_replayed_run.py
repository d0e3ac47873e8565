"""GRPO from a record: the same curves and weights where nothing is changed, others under another loss, no worker."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.context import Context, StageFailed
from engine.data.recorded import recorded_steps, step_path
from engine.stages import grpo
from engine.startup import launch
from engine.startup.launch import LaunchError
from engine.training import replay
from profiles.load import load
from profiles.schema import Profile
from store.home import RunFolder
from store.records import Event, Record, Scalar
from tests.support.small_experiment import PROFILE, examples, finish, make_inputs, scalars
from tests.support.stage_context import NoCommands

STEPS = 4
# An untrained model answers nothing, so reward is by length; two epochs in two parts leave the sampler's own weights.
SETTINGS = (f"grpo.steps={STEPS}", "grpo.overlong_buffer=8", "grpo.epochs=2", "grpo.minibatches=2")
LEARNED = ("train/loss", "train/grad_norm", "train/entropy", "ratio/max", "reward/mean", "/staleness")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile whose one trained arm is GRPO from the untrained model."""
    path = make_inputs(tmp_path_factory.mktemp("inputs"))
    arms = (
        '[[arms]]\nname = "base"\nstage = "none"\n[[arms]]\nname = "grpo"\nstage = "grpo"\nparent = "base"\n'
    )
    path.write_text(PROFILE.format(folder=path.parent).partition("[[arms]]")[0] + arms)
    return path


@pytest.fixture(scope="module")
def recorded(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with a worker."""
    home = tmp_path_factory.mktemp("home")
    stages = ("data", "preprocess", "grpo")
    folder = RunFolder(home, launch.start_run(home, load(str(experiment), SETTINGS), stages, 0))
    finish(folder)
    assert recorded_steps(folder.rollouts / "grpo") == list(range(1, STEPS + 1))
    return folder


def curves(records: list[Record]) -> dict[tuple[str, int], float]:
    rows = [row for row in records if isinstance(row, Scalar)]
    return {(row.metric, row.step): row.value for row in rows if row.metric.endswith(LEARNED)}


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.checkpoints("grpo") / f"step_{STEPS:06d}" / "model.safetensors")


def train_here(folder: RunFolder, profile: Profile) -> list[Record]:
    """The stage in this process, with no worker; what it told."""
    folder.path.mkdir(parents=True)
    told: list[Record] = []
    grpo.run(Context(folder, profile, 0, "grpo", profile.arm("grpo"), told.append, NoCommands(), None))
    return told


def test_a_replayed_run_has_no_worker_and_the_same_numbers(recorded: RunFolder, experiment: Path) -> None:
    home = recorded.home
    profile = load(str(experiment), [*SETTINGS, f"grpo.replay={recorded.run_id}"])
    again = RunFolder(home, launch.start_run(home, profile, ("grpo",), 0))
    finish(again)
    expected = curves(scalars(recorded))
    assert len({value for (name, _), value in expected.items() if name == "grpo/train/loss"}) == STEPS
    assert curves(scalars(again)) == expected
    found = weights(again)
    for name, weight in weights(recorded).items():
        assert torch.equal(found[name], weight)
    assert not (again.logs / "worker.log").exists()
    assert not again.rollouts.exists()


def test_one_step_number_for_an_update_and_all_that_it_is_made_of(recorded: RunFolder) -> None:
    """Step N is the N-th update: its metrics, the worker's, its completions and its recorded rollouts carry N."""
    updates = list(range(1, STEPS + 1))
    found: dict[str, set[int]] = {}
    for row in scalars(recorded):
        found.setdefault(row.metric, set()).add(row.step)
    validated = {name for name in found if name.startswith("grpo/val/")}
    assert "grpo/worker/tokens_per_second" in found and "grpo/train/loss" in found
    # The sampler is compared with the trainer only at the weights that sampled: here before the first update.
    compared = {name for name in found if name.startswith("grpo/sampling/logprob_difference/")}
    assert {step for name in compared for step in found[name]} == {1}
    counted = {name for name in found if name.startswith("grpo/")} - validated - compared
    assert {name: sorted(found[name]) for name in counted} == dict.fromkeys(counted, updates)
    trained = [row.step for row in examples(recorded) if row.task == "train"]
    assert sorted(set(trained)) == updates and len(trained) == 4 * STEPS  # grpo.examples_per_step
    assert {row.step for row in examples(recorded) if row.task == "validation"} <= {0, *updates}
    versions = [replay.read(recorded.rollouts / "grpo", step).version for step in updates]
    assert versions == [0, 0, 1, 2]  # one update behind
    staleness = {row.step: row.value for row in scalars(recorded) if row.metric == "grpo/staleness"}
    assert staleness == {1: 0, 2: 1, 3: 1, 4: 1}


def test_a_record_of_an_older_version_trains_as_it_did(
    recorded: RunFolder, experiment: Path, tmp_path: Path
) -> None:
    """It counted from 0, in the files' names and in them."""
    older = tmp_path / "rollouts" / "grpo"
    older.mkdir(parents=True)
    for step in recorded_steps(recorded.rollouts / "grpo"):
        with np.load(step_path(recorded.rollouts / "grpo", step)) as file:
            np.savez_compressed(older / f"step_{step - 1:06d}.npz", **{**file, "step": step - 1})
    folder = RunFolder(recorded.home, "from-an-older-record")
    told = train_here(folder, load(str(experiment), [*SETTINGS, f"grpo.replay={tmp_path}"]))
    assert curves(told) == curves(scalars(recorded))
    (older / "step_000000.npz").unlink()
    line = refused(recorded, experiment, f"grpo.replay={tmp_path}")
    assert line.endswith("update_000001.npz is missing; choose a run with a whole record")


def test_another_loss_makes_its_own_advantages_of_the_recorded_rewards(
    recorded: RunFolder, experiment: Path
) -> None:
    folder = RunFolder(recorded.home, "another-loss")
    settings = ("grpo.steps=1", "grpo.overlong_buffer=8", "grpo.loss=dr_grpo", f"grpo.replay={recorded.path}")
    told = train_here(folder, load(str(experiment), settings))
    # At the sampler's own weights every ratio is 1: Dr. GRPO's loss is −Σ A × tokens over all that might have been.
    first = replay.read(recorded.rollouts / "grpo", 1)
    groups = first.rewards.reshape(8, 4)
    centred = (groups - groups.mean(axis=1, keepdims=True)).reshape(-1)
    tokens = [sequence.response_length for sequence in first.sequences]
    assert centred.any()
    found = curves(told)
    assert found["grpo/train/loss", 1] == pytest.approx(-(centred @ tokens) / (32 * 8), rel=1e-5)
    assert found["grpo/reward/mean", 1] == pytest.approx(first.rewards.mean())
    (message,) = (event.message for event in told if isinstance(event, Event) and event.kind == "log")
    assert message.startswith(f"training on the recorded rollouts of {recorded.path}; validation is skipped")


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (("grpo.replay=nobody",), "grpo.replay nobody: no such run in "),
        (("grpo.steps=9",), "4 steps of arm grpo are recorded, grpo.steps is 9; --set grpo.steps=4"),
        (
            ("grpo.temperature=0.7",),
            "drawn at temperature 1.0, grpo.temperature is 0.7; --set grpo.temperature=1.0",
        ),
    ],
)
def test_what_cannot_be_replayed_is_one_line_and_nothing_starts(
    settings: tuple[str, ...], fault: str, recorded: RunFolder, experiment: Path
) -> None:
    assert fault in refused(recorded, experiment, f"grpo.replay={recorded.run_id}", *settings)


def test_a_record_with_a_hole_or_none_at_all(recorded: RunFolder, experiment: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded.path / "rollouts", tmp_path / "rollouts")
    step_path(tmp_path / "rollouts" / "grpo", 2).unlink()
    line = refused(recorded, experiment, f"grpo.replay={tmp_path}")
    assert line.endswith("rollouts/grpo/update_000002.npz is missing; choose a run with a whole record")
    shutil.rmtree(tmp_path / "rollouts")
    line = refused(recorded, experiment, f"grpo.replay={tmp_path}")
    assert "no recorded rollouts of arm grpo; choose a run that trained it" in line


@pytest.mark.parametrize("text", ['{"profile": ', "[]", "{}"])
def test_a_record_whose_configuration_is_damaged(
    text: str, recorded: RunFolder, experiment: Path, tmp_path: Path
) -> None:
    shutil.copytree(recorded.path / "rollouts", tmp_path / "rollouts")
    (tmp_path / "rollouts" / "grpo" / "update_000001 (copy).npz").touch()  # is nobody's step
    (tmp_path / "run.json").write_text(text)
    line = refused(recorded, experiment, f"grpo.replay={tmp_path}")
    assert line.endswith("run.json is not a run's configuration; choose a run that is whole")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:-400:97] = bytes(255 - byte for byte in content[200:-400:97])
    path.write_bytes(content)


def regroup(path: Path) -> None:
    with np.load(path) as file:
        np.savez_compressed(path, **{**file, "group_size": 5})


def foreign(path: Path) -> None:
    with np.load(path) as file:
        np.savez_compressed(path, **{**file, "token_ids": file["token_ids"] + 1000})


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (cut, "cannot be read (BadZipFile: "),
        (empty, "cannot be read (EOFError: "),
        (change, "cannot be read ("),
        (regroup, "cannot be read (ValueError: "),
        (foreign, ", this model has 37; choose a run of the same model"),
    ],
)
def test_a_step_that_is_damaged_or_of_another_model_ends_the_stage(
    damage: Callable[[Path], None], fault: str, recorded: RunFolder, experiment: Path, tmp_path: Path
) -> None:
    shutil.copytree(recorded.path / "rollouts", tmp_path / "rollouts")
    damage(step_path(tmp_path / "rollouts" / "grpo", 1))
    folder = RunFolder(recorded.home, f"damaged-{damage.__name__}")
    with pytest.raises(StageFailed) as caught:
        train_here(folder, load(str(experiment), [*SETTINGS, f"grpo.replay={tmp_path}"]))
    assert str(caught.value).startswith(
        f"grpo.replay {tmp_path}: {tmp_path}/rollouts/grpo/update_000001.npz "
    )
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def refused(recorded: RunFolder, experiment: Path, *settings: str) -> str:
    """The one line with which a replay is refused; no run is there that was not before."""
    before = set(recorded.path.parent.iterdir())
    with pytest.raises(LaunchError) as caught:
        launch.start_run(recorded.home, load(str(experiment), [*SETTINGS, *settings]), ("grpo",), 0)
    assert set(recorded.path.parent.iterdir()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)
