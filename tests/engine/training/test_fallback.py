"""A damaged checkpoint: training goes on from the one before it, to the same end, and reports it."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from engine.artifacts import digests
from engine.artifacts.arms import standing
from engine.artifacts.finished import mark_step
from engine.context import ArmReopened, Context, StageFailed, StopRequested
from engine.protocol.messages import Job
from engine.stages import stage
from engine.training import checkpoint
from engine.training.checkpoint import older_trainer_file
from engine.training.fallback import whole_model
from engine.training.pickled_state import UnsafePickle, read_pickled_state
from engine.training.plain import Stored, decode
from store.home import RunFolder
from store.records import Event, Record, Scalar
from tests.support.stage_context import NoCommands
from tests.support.stages_alone import HandWorker, StopsAt, prepared, train

SETTINGS = (
    "sft.steps=4",
    "sft.checkpoint_every=2",
    "sft.validate_every=2",
    "grpo.steps=8",
    "grpo.checkpoint_every=0",
    "grpo.staleness=2",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A run whose SFT arm is trained and has two checkpoints."""
    context, _ = prepared(tmp_path_factory.mktemp("run"), *SETTINGS)
    train(context, "sft", HandWorker())
    return context


@pytest.fixture
def again(run: Context, tmp_path: Path) -> tuple[Context, list[Record]]:
    """A copy of the run, and what it will emit."""
    told: list[Record] = []
    shutil.copytree(run.folder.path.parent.parent, tmp_path / "home", symlinks=True)
    folder = RunFolder(tmp_path / "home", run.folder.run_id)
    return replace(run, folder=folder, emit=told.append), told


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def warnings(told: list[Record]) -> list[str]:
    return [
        each.message
        for each in told
        if isinstance(each, Event) and each.kind == "log" and each.payload.get("level") == "warning"
    ]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def curves(told: list[Record]) -> dict[tuple[str, int], float]:
    """The last value of each metric at each step, without the times."""
    return {
        (each.metric, each.step): each.value
        for each in told
        if isinstance(each, Scalar) and "/time/" not in each.metric and "per_second" not in each.metric
    }


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", flip),
        ("trainer_0_000.safetensors", flip),
        ("trainer_0.json", flip),
        ("tokenizer.json", flip),
        ("score.json", flip),
        ("digests.json", Path.unlink),
        ("trainer_0_000.safetensors", Path.unlink),
        ("config.json", halve),
    ],
)
def test_training_goes_on_from_the_one_before_and_comes_to_the_same(
    again: tuple[Context, list[Record]], name: str, damage: Callable[[Path], None]
) -> None:
    context, told = again
    root = context.folder.checkpoints("sft")
    newest, expected, leader = root / "step_000004", files(root / "step_000004"), checkpoint.best(root)
    damage(newest / name)
    left = files(newest)
    train(context, "sft", HandWorker())
    (warning,) = warnings(told)
    assert f"{newest / name} is damaged" in warning
    assert warning.endswith("that checkpoint is now damaged-step_000004; training continues from step 2")
    assert files(root / "damaged-step_000004") == left  # kept as it was
    assert files(newest) == expected
    assert checkpoint.best(root) == leader


def test_rollouts_and_carried_weights_of_the_one_before_are_used(
    again: tuple[Context, list[Record]], tmp_path: Path
) -> None:
    """Both checkpoints are of stops that left rollouts unanswered, under weights older than their own."""
    context, told = again
    straight = replace(context, folder=RunFolder(tmp_path / "straight", context.folder.run_id))
    shutil.copytree(context.folder.home, tmp_path / "straight", symlinks=True)
    expected: list[Record] = []
    train(replace(straight, emit=expected.append), "sft+grpo", HandWorker())

    def late(first: int) -> Callable[[Job], bool]:
        return lambda job: job.kind == "validation" or job.step >= first

    root = context.folder.checkpoints("sft+grpo")
    for first in (4, 7):
        with pytest.raises(StopRequested):
            train(context, "sft+grpo", HandWorker(late(first)), StopsAt(12 if first == 4 else 9))
    older, newest = checkpoint.steps(root)
    assert checkpoint.extra_weights(older) and checkpoint.extra_weights(newest)
    flip(newest / next(iter(checkpoint.extra_weights(newest).values())).name)
    train(context, "sft+grpo", HandWorker())
    assert len(warnings(told)) == 1
    assert curves(told) == curves(expected)
    last = straight.folder.checkpoints("sft+grpo") / "step_000008"
    for name in ("model.safetensors", "trainer_0_000.safetensors"):
        assert (root / "step_000008" / name).read_bytes() == (last / name).read_bytes()


def test_a_damaged_best_gives_its_place_to_the_best_that_is_left(tmp_path: Path) -> None:
    for step, score in ((1, 0.25), (2, 0.5), (3, 0.5)):
        checkpoint.path_of(tmp_path, step).mkdir()
        checkpoint.set_score(tmp_path, step, score)
    (tmp_path / "step_000002").rename(tmp_path / "damaged-step_000002")
    checkpoint.choose_best(tmp_path)
    assert checkpoint.best(tmp_path) == tmp_path / "step_000003"
    (tmp_path / "step_000003").rename(tmp_path / "damaged-step_000003")
    checkpoint.choose_best(tmp_path)
    assert checkpoint.best(tmp_path) == tmp_path / "step_000001"


def test_without_a_whole_one_training_starts_from_its_beginning(again: tuple[Context, list[Record]]) -> None:
    context, told = again
    root = context.folder.checkpoints("sft")
    expected = files(root / "step_000004")
    for folder in checkpoint.steps(root):
        flip(folder / "model.safetensors")
    (root / "damaged-step_000004").mkdir()  # of an earlier damage
    train(context, "sft", HandWorker())
    assert [words.rpartition("; ")[2] for words in warnings(told)] == [
        "training continues from its beginning: no whole checkpoint is left"
    ] * 2
    assert sorted(path.name for path in root.glob("damaged-*")) == [
        "damaged-step_000002",
        "damaged-step_000004",
        "damaged-step_000004-2",
    ]
    assert files(root / "step_000004") == expected


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOSPC])
def test_a_checkpoint_that_the_system_does_not_let_it_read_is_not_called_damaged(
    again: tuple[Context, list[Record]], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    context, told = again
    root = context.folder.checkpoints("sft")
    names = sorted(path.name for path in root.iterdir())

    def refuse(path: Path) -> Any:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(digests, "file_digest", refuse)
    with pytest.raises(
        StageFailed, match=f"cannot be read: {os.strerror(number)}; the checkpoint is not known to be damaged"
    ):
        train(context, "sft", HandWorker())
    assert sorted(path.name for path in root.iterdir()) == names
    monkeypatch.undo()
    train(context, "sft", HandWorker())
    assert not warnings(told)


def test_a_damaged_one_on_a_read_only_disk_is_reported_with_both(
    again: tuple[Context, list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _ = again
    newest = context.folder.checkpoints("sft") / "step_000004"
    flip(newest / "config.json")

    def refuse(path: Path, target: Path) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(
        StageFailed,
        match=f"config.json is damaged: .*, and {newest} cannot be renamed .Read-only file system.; make",
    ):
        train(context, "sft", HandWorker())


@pytest.mark.parametrize("user", ["sft+grpo", "eval"])
def test_an_arm_whose_last_checkpoint_is_damaged_trains_its_last_steps_again(
    again: tuple[Context, list[Record]], user: str
) -> None:
    context, told = again
    root, mark = context.folder.checkpoints("sft"), context.folder.path / "finished" / "sft"
    mark_step(context.folder, "sft", 4)
    expected = files(root / "step_000004")
    flip(root / "step_000004" / "model.safetensors")

    def use() -> None:
        if user == "eval":
            stage("eval")(
                replace(context, stage="eval", arm=None, generation=HandWorker(), control=NoCommands())
            )
        else:
            train(context, user, HandWorker())

    with pytest.raises(ArmReopened) as reopened:
        use()
    assert reopened.value.arm == "sft"
    assert not mark.exists()
    (warning,) = warnings(told)
    assert "model.safetensors is damaged" in warning
    assert warning.endswith("now damaged-step_000004; the lost steps of arm sft are trained again")
    train(context, "sft", HandWorker())
    assert files(root / "step_000004") == expected
    use()


def test_a_damaged_best_is_replaced_by_the_best_of_the_others(again: tuple[Context, list[Record]]) -> None:
    context, told = again
    profile = context.profile.model_copy(
        update={"eval": context.profile.eval.model_copy(update={"checkpoint": "best"})}
    )
    context = replace(context, profile=profile)
    root = context.folder.checkpoints("sft")
    (root / "best").unlink()
    checkpoint.set_score(root, 4, 0.5)
    checkpoint.set_score(root, 2, 0.75)
    arm = profile.arm("sft")
    assert whole_model(context, arm) == (str(root / "step_000002"), 2)
    flip(root / "step_000002" / "model.safetensors")
    assert whole_model(context, arm) == (str(root / "step_000004"), 4)
    (warning,) = warnings(told)
    assert warning.endswith("now damaged-step_000002; the best other checkpoint of arm sft takes its place")


def to_older_form(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewrite a checkpoint as older versions wrote it: RNG and state as a pickle, no digests."""
    import json

    from safetensors.numpy import load_file

    arrays = load_file(folder / "trainer_0.safetensors")
    trainer = decode(json.loads((folder / "trainer_0.json").read_text()), arrays)
    # The module had another name then; pickle looks the class up in it.
    older = ModuleType("engine.learning.checkpoint")
    monkeypatch.setattr(older, "Stored", Stored, raising=False)
    monkeypatch.setitem(sys.modules, "engine.learning", ModuleType("engine.learning"))
    monkeypatch.setitem(sys.modules, older.__name__, older)
    monkeypatch.setattr(Stored, "__module__", older.__name__)
    torch.save(trainer, folder / older_trainer_file())
    monkeypatch.undo()
    for name in ("trainer_0.json", "trainer_0.safetensors", "digests.json"):
        (folder / name).unlink()


def test_a_checkpoint_of_an_older_version_is_resumed_to_the_same_end(
    again: tuple[Context, list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, told = again
    grpo = replace(context, folder=context.folder)
    with pytest.raises(StopRequested):
        train(grpo, "sft+grpo", HandWorker(lambda job: job.step >= 4), StopsAt(12))
    twin = context.folder.home.with_name("twin")
    shutil.copytree(context.folder.home, twin, symlinks=True)
    folder = checkpoint.latest(context.folder.checkpoints("sft+grpo"))
    assert folder is not None
    to_older_form(folder, monkeypatch)
    train(context, "sft+grpo", HandWorker())
    other = replace(context, folder=RunFolder(twin, context.folder.run_id))
    train(other, "sft+grpo", HandWorker())
    assert files(context.folder.checkpoints("sft+grpo") / "step_000008") == files(
        other.folder.checkpoints("sft+grpo") / "step_000008"
    )
    assert not warnings(told)


@pytest.mark.parametrize(
    ("name", "damage"),
    [("trainer_0.pt", flip), ("trainer_0.pt", halve), ("model.safetensors", halve), ("config.json", halve)],
)
def test_damage_that_shows_without_digests_is_passed_over_too(
    again: tuple[Context, list[Record]],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    context, told = again
    root = context.folder.checkpoints("sft")
    expected = files(root / "step_000004")
    for folder in checkpoint.steps(root):
        to_older_form(folder, monkeypatch)
    damage(root / "step_000004" / name)
    train(context, "sft", HandWorker())
    assert len(warnings(told)) == 1
    assert files(root / "step_000004") == expected


class Bomb:
    """A pickle of it runs a command as it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def test_a_pickle_that_would_run_code_is_refused_in_one_line(
    again: tuple[Context, list[Record]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    context, _ = again
    newest = context.folder.checkpoints("sft") / "step_000004"
    to_older_form(newest, monkeypatch)
    torch.save({"rng": Bomb(tmp_path / "ran")}, newest / older_trainer_file())
    with pytest.raises(UnsafePickle):
        read_pickled_state(newest / older_trainer_file())
    with pytest.raises(StageFailed, match="trainer_0.pt: contains Python objects other than") as failure:
        train(context, "sft", HandWorker())
    assert "\n" not in str(failure.value)
    assert not (tmp_path / "ran").exists()
    # Its weights are read all the same.
    assert standing(context.folder, context.profile, context.profile.arm("sft")) == (str(newest), 4)


@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
def test_a_plain_pickle_is_refused_by_name_and_not_called_damaged(
    again: tuple[Context, list[Record]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: int
) -> None:
    context, told = again
    root = context.folder.checkpoints("sft")
    for folder in checkpoint.steps(root):
        to_older_form(folder, monkeypatch)
    newest = root / "step_000004"
    content = pickle.dumps({"rng": Bomb(tmp_path / "ran")}, protocol)
    (newest / older_trainer_file()).write_bytes(content)
    with pytest.raises(StageFailed) as failure:
        train(context, "sft", HandWorker())
    assert f"{newest / older_trainer_file()}: is a plain pickle" in str(failure.value)
    assert "Python objects other than tensors and numbers; not loaded" in str(failure.value)
    assert "\n" not in str(failure.value) and "damaged" not in str(failure.value)
    assert not (tmp_path / "ran").exists()
    assert not warnings(told)
    assert (newest / older_trainer_file()).read_bytes() == content
