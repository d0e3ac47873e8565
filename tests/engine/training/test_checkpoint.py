"""Checkpoints: exact resumption in another process, folders that are whole or absent, the newest and the best kept."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.artifacts.digests import Digest
from engine.protocol.messages import WeightRef
from engine.training import checkpoint, checkpoint_writer, tensor_image
from engine.training.checkpoint_writer import CheckpointWriter
from engine.training.direct_io import aligned, write_durably
from engine.training.optimizer import MasterAdamW
from engine.training.packing import pack
from engine.training.policy import Policy
from engine.training.tensor_image import TensorImage
from engine.weight_sync.weights import WeightPublisher, read_weights
from profiles.training import Sft
from tests.support.places import ROOT
from tests.support.tiny_models import random_sequences, tiny_model

DTYPES = ("float32", "bfloat16")
SETTINGS = Sft(learning_rate=3e-3, warmup_steps=3, schedule="cosine")


def train(policy: Policy, optimizer: MasterAdamW, first: int, last: int) -> list[float]:
    """Steps whose batches hang on every global generator; gives the exact losses."""
    losses = []
    items = random_sequences(40)
    for _ in range(first, last):
        chosen = [random.randrange(40), int(np.random.randint(40)), int(torch.randint(40, ()))]
        total = 0.0
        for packed in pack([items[row] for row in chosen], budget=50):
            loss, _ = policy.cross_entropy(packed)
            (loss / 60).backward()
            total += float(loss.detach())
        optimizer.step()
        losses.append(total)
    return losses


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


Outcome = tuple[list[float], dict[str, torch.Tensor]]


def go_on(root: Path) -> None:
    """What a restarted process does: steps 5 to 10 from the newest checkpoints; leaves losses and masters behind."""
    torch.set_num_threads(1)
    for dtype in DTYPES:
        seed_everything(999)  # the checkpoint must undo this
        folder = checkpoint.latest(root / dtype)
        assert folder is not None
        policy = Policy.load(folder, compute_dtype=dtype)
        optimizer = MasterAdamW(policy.precision, SETTINGS, 10)
        state = checkpoint.load(folder, optimizer)
        losses = state["losses"].tolist() + train(policy, optimizer, 5, 10)
        torch.save((losses, dict(policy.precision.masters)), root / f"{dtype}.pt")


def ten_straight_and_five_saved(root: Path, dtype: str) -> Outcome:
    """Losses and masters of ten steps; a second run leaves a checkpoint after its fifth."""
    straight = Policy(tiny_model(), compute_dtype=dtype)
    seed_everything(7)
    losses = train(straight, MasterAdamW(straight.precision, SETTINGS, 10), 0, 10)

    policy = Policy(tiny_model(), compute_dtype=dtype)
    optimizer = MasterAdamW(policy.precision, SETTINGS, 10)
    seed_everything(7)
    first = train(policy, optimizer, 0, 5)
    writer = CheckpointWriter(root / dtype, keep=2)
    writer.save(5, policy, None, optimizer, {"losses": np.array(first)})
    train(policy, optimizer, 5, 7)  # beside the write, which must not see it
    writer.close()
    return losses, straight.precision.masters


def test_five_steps_a_new_process_and_five_more_are_ten_steps_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_writer, "PART_BYTES", 10_000)  # several files
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = {dtype: ten_straight_and_five_saved(tmp_path, dtype) for dtype in DTYPES}
    torch.set_num_threads(threads)
    assert len(list((tmp_path / "float32" / "step_000005").glob("trainer_0_*.safetensors"))) > 3

    code = (
        "import pathlib; from tests.engine.training import test_checkpoint as t; "
        f"t.go_on(pathlib.Path({str(tmp_path)!r}))"
    )
    search = str(ROOT)
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": search}, timeout=120
    )
    for dtype, (losses, masters) in expected.items():
        resumed: Outcome = torch.load(tmp_path / f"{dtype}.pt")
        assert resumed[0] == losses
        for name, master in masters.items():
            assert torch.equal(resumed[1][name], master), name


class Blank:
    """A model without weights, and an optimizer with nothing in it."""

    def save_config(self, folder: Path) -> None:
        (folder / "config.json").write_text("{}")

    def file_weights(self) -> dict[str, torch.Tensor]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        assert state == {}


def save(root: Path, step: int, score: float | None = None, keep: int = 2) -> Path:
    writer = CheckpointWriter(root, keep)
    if score is not None:
        writer.record_score(step, score)
    writer.save(step, Blank(), None, Blank(), {"step": step})
    writer.close()
    return checkpoint.path_of(root, step)


def names(root: Path) -> list[str]:
    return [path.name for path in checkpoint.steps(root)]


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step, score in ((50, 0.3), (100, 0.5), (150, 0.4), (200, None), (250, 0.5)):
        save(tmp_path, step, score)
    assert names(tmp_path) == ["step_000100", "step_000200", "step_000250"]
    leader, newest = checkpoint.best(tmp_path), checkpoint.latest(tmp_path)
    assert leader is not None and leader.name == "step_000100"
    assert newest is not None and checkpoint.load(newest, Blank()) == {"step": 250}
    assert (tmp_path / "best" / "model.safetensors").is_file()


def test_a_score_that_comes_late_moves_best(tmp_path: Path) -> None:
    save(tmp_path, 50, 0.3)
    save(tmp_path, 100)
    checkpoint.set_score(tmp_path, 100, 0.6)
    checkpoint.set_score(tmp_path, 75, 0.9)  # no checkpoint of that step
    leader = checkpoint.best(tmp_path)
    assert leader is not None and leader.name == "step_000100"


class Dying(Blank):
    """Dies when half of it is written."""

    def save_config(self, folder: Path) -> None:
        super().save_config(folder)
        raise KeyboardInterrupt


def test_a_torn_checkpoint_is_never_seen_and_is_swept_up(tmp_path: Path) -> None:
    save(tmp_path, 50)
    with pytest.raises(KeyboardInterrupt):
        CheckpointWriter(tmp_path, 2).save(100, Dying(), None, Blank(), {})
    assert names(tmp_path) == ["step_000050"]
    save(tmp_path, 100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000050", "step_000100"]


def test_a_finished_step_is_never_written_again(tmp_path: Path) -> None:
    folder = save(tmp_path, 50)
    before = (folder / checkpoint.trainer_file()).stat().st_mtime_ns
    CheckpointWriter(tmp_path, 2).save(50, Dying(), None, Blank(), {"step": -1})
    assert (folder / checkpoint.trainer_file()).stat().st_mtime_ns == before


def test_a_bare_model_is_no_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    policy = Policy(tiny_model())
    policy.save_config(tmp_path)
    with pytest.raises(checkpoint.CheckpointError, match=str(tmp_path)):
        checkpoint.load(tmp_path, MasterAdamW(policy.precision, SETTINGS, 1))


def test_a_checkpoint_is_a_model_for_anyone(tmp_path: Path) -> None:
    policy = Policy(tiny_model())
    writer = CheckpointWriter(tmp_path, 1)
    writer.save(1, policy, None, MasterAdamW(policy.precision, SETTINGS, 1), {})
    writer.close()
    folder = checkpoint.path_of(tmp_path, 1)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    for name, weight in policy.named_weights():
        assert torch.equal(loaded.get_parameter(name), weight)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "absent") is None and checkpoint.best(tmp_path / "absent") is None


class Slow(CheckpointWriter):
    """Its checkpoints become visible when the test lets them."""

    def __init__(self, root: Path, seen: list[str]) -> None:
        super().__init__(root, 2, self._wait)
        self.seen = seen
        self.go_on = threading.Event()

    def _wait(self, step: int, path: Path) -> None:
        assert self.go_on.wait(60)
        self.seen.append(path.name)


def test_a_save_returns_before_it_is_written_and_the_next_waits_for_it(tmp_path: Path) -> None:
    writer = Slow(tmp_path, [])
    writer.save(50, Blank(), None, Blank(), {})
    assert writer.seen == []
    next_one = threading.Thread(target=writer.save, args=(100, Blank(), None, Blank(), {}))
    next_one.start()
    assert not checkpoint.draft_of(checkpoint.path_of(tmp_path, 100)).exists()
    writer.go_on.set()
    next_one.join(60)
    writer.close()
    assert writer.seen == ["step_000050", "step_000100"] == names(tmp_path)


def test_what_went_wrong_in_the_background_is_raised_at_the_next_call_and_once(tmp_path: Path) -> None:
    def full(step: int, path: Path) -> None:
        raise OSError(28, "No space left on device")

    writer = CheckpointWriter(tmp_path, 2, full)
    writer.save(50, Blank(), None, Blank(), {})
    with pytest.raises(OSError, match="No space left"):
        writer.save(100, Blank(), None, Blank(), {})
    writer.close()


def test_a_score_that_comes_while_its_checkpoint_is_written_is_kept(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, 1)
    for step in (50, 100, 150):
        writer.save(step, Blank(), None, Blank(), {})
        writer.record_score(step, 1.0 / step)
    writer.close()
    leader = checkpoint.best(tmp_path)
    assert leader is not None and leader.name == "step_000050"
    assert names(tmp_path) == ["step_000050", "step_000150"]


def test_lent_weights_travel_in_the_checkpoint_and_are_given_back(tmp_path: Path) -> None:
    (tmp_path / "slots").mkdir()
    publisher = WeightPublisher("run", tmp_path / "slots")
    older = publisher.publish("grpo", 49, [("weight", torch.arange(7.0))])
    writer = CheckpointWriter(tmp_path / "root", 2)
    for _ in range(2):  # the second finds the step there, and must give back all the same
        writer.save(50, Blank(), None, Blank(), {}, [publisher.borrow(older)])
    writer.close()
    publisher.release(older)
    with pytest.raises(KeyError, match="not published"):
        publisher.release(older)
    publisher.publish("grpo", 50, [("weight", torch.zeros(7))])  # into the same slot
    ((version, path),) = checkpoint.extra_weights(checkpoint.path_of(tmp_path / "root", 50)).items()
    assert version == 49
    assert read_weights(WeightRef("grpo", 49, str(path)))["weight"].tolist() == list(range(7))
    checkpoint.drop_extra_weights(tmp_path / "root")
    assert checkpoint.extra_weights(path.parent) == {}


def test_a_last_checkpoint_does_not_wait_for_pages_to_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked: list[object] = []
    monkeypatch.setattr(TensorImage, "lock_pages", lambda image: locked.append(image))
    is_last = threading.Event()
    writer = CheckpointWriter(tmp_path, 2, lambda step, path: assert_set(is_last))
    is_last.set()
    writer.save(50, Blank(), None, Blank(), {})
    writer.wait()
    assert len(locked) == 2
    is_last.clear()
    writer.save(100, Blank(), None, Blank(), {})
    end = threading.Thread(target=writer.close)
    end.start()
    while not writer._closing:
        continue
    is_last.set()
    end.join(60)
    assert len(locked) == 2


def assert_set(event: threading.Event) -> None:
    assert event.wait(60)


def test_room_that_was_made_ahead_is_what_the_first_save_copies_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counted(size: int) -> torch.Tensor:
        made.append(size)
        return aligned(size)

    policy = Policy(tiny_model())
    optimizer = MasterAdamW(policy.precision, SETTINGS, 10)
    train(policy, optimizer, 0, 1)
    writer = CheckpointWriter(tmp_path, 1)
    monkeypatch.setattr(tensor_image, "aligned", counted)
    writer.prepare(policy, optimizer, torch.device("cpu"))
    writer.wait()
    parameters = sum(weight.numel() for _, weight in policy.named_weights())
    assert sum(made) >= (3 + 1) * 4 * parameters  # masters, two moments; weights
    largest, made[:] = min(size for size in made), []
    writer.save(1, policy, None, optimizer, {})
    writer.close()
    assert all(size < largest for size in made)  # the files' headers alone
    assert checkpoint.latest(tmp_path) == tmp_path / "step_000001"


def test_every_file_of_a_checkpoint_is_synced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    folder = save(tmp_path, 50)
    files = [path.name for path in folder.iterdir()]
    assert sorted(synced) == sorted([*files, checkpoint.draft_of(folder).name, tmp_path.name])


class OfTwoParts(Blank):
    """An optimizer with two tensors."""

    def state_dict(self) -> dict[str, Any]:
        return {"first": torch.zeros(3), "second": torch.ones(3)}


def test_a_part_is_written_while_the_next_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = threading.Event()
    take = TensorImage.take

    def write(path: Path, parts: Sequence[memoryview]) -> Digest:
        found = write_durably(path, parts)
        written.set()
        return found

    def take_later(image: TensorImage, tensors: dict[str, torch.Tensor]) -> None:
        assert "/first" in tensors or written.wait(60)
        take(image, tensors)

    monkeypatch.setattr(checkpoint_writer, "PART_BYTES", 1)
    monkeypatch.setattr(tensor_image, "write_durably", write)
    monkeypatch.setattr(TensorImage, "take", take_later)
    writer = CheckpointWriter(tmp_path, 1)
    writer.save(50, Blank(), None, OfTwoParts(), {})
    writer.close()
    files = sorted(path.name for path in checkpoint.path_of(tmp_path, 50).glob("*_00?.safetensors"))
    assert files == ["trainer_0_000.safetensors", "trainer_0_001.safetensors"]


def test_a_checkpoint_that_lacks_a_part_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, parts: Sequence[memoryview]) -> None:
        raise OSError(28, "No space left on device")

    writer = CheckpointWriter(tmp_path, 1)
    monkeypatch.setattr(tensor_image, "write_durably", full)
    writer.save(50, Blank(), None, OfTwoParts(), {})
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    assert names(tmp_path) == []
