"""Digests: any flipped bit is found and named, and a folder without digests is taken as it is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import xxhash

from engine.artifacts import digests
from engine.artifacts.digests import DamagedFile
from engine.generators.checkpoint import named_tensors
from engine.generators.interface import WeightsRefused
from engine.protocol.messages import WeightRef
from engine.training import checkpoint
from engine.training.checkpoint_writer import CheckpointWriter
from engine.training.optimizer import MasterAdamW
from engine.training.policy import Policy
from engine.weight_sync.weights import WeightReader
from profiles.training import Sft
from tests.support.tiny_models import tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scored checkpoint of a small model."""
    policy = Policy(tiny_model())
    optimizer = MasterAdamW(policy.precision, Sft(), 1)
    for master in policy.precision.masters.values():
        master.grad = master.detach().clone()
    optimizer.step()
    writer = CheckpointWriter(tmp_path, 1)
    writer.record_score(1, 0.3125)
    writer.save(1, policy, None, optimizer, {"step": 1})
    writer.close()
    return checkpoint.path_of(tmp_path, 1)


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_the_list_has_every_file_by_its_size_and_digest(folder: Path) -> None:
    listed = digests.read_list(folder)
    assert listed is not None
    files = {path.name for path in folder.iterdir()}
    assert listed.keys() == files - {"digests.json", "score.json"}  # the score comes later
    assert {"model.safetensors", "trainer_0_000.safetensors", "trainer_0.json", "config.json"} <= files
    for name, found in listed.items():
        content = (folder / name).read_bytes()
        assert (found.size, found.xxh3) == (len(content), xxhash.xxh3_128_hexdigest(content))


def test_one_flipped_bit_in_any_file_is_found_and_named(folder: Path) -> None:
    rng = random.Random(0)
    digests.check(folder)
    for path in sorted(digests.read_list(folder) or ()):
        for bit in (0, rng.randrange((folder / path).stat().st_size * 8)):
            flip(folder / path, bit)
            with pytest.raises(DamagedFile, match=f"^{folder / path} is damaged: its bytes"):
                digests.check(folder)
            flip(folder / path, bit)
    digests.check(folder)


def test_the_list_and_the_score_do_not_change_unseen(folder: Path) -> None:
    listed, score = folder / "digests.json", folder / "score.json"
    for bit in range(0, listed.stat().st_size * 8, 29):  # each of the eight places in a byte comes up
        flip(listed, bit)
        with pytest.raises(DamagedFile, match=f"^{listed} is damaged"):
            digests.read_list(folder)
        flip(listed, bit)
    for bit in range(score.stat().st_size * 8):
        flip(score, bit)
        with pytest.raises(DamagedFile, match=f"^{score} is damaged"):
            checkpoint.score_of(folder)
        flip(score, bit)
    assert checkpoint.score_of(folder) == 0.3125


@pytest.mark.parametrize("share", [0.5, None])
def test_a_file_that_was_cut_short_or_is_gone_is_named(folder: Path, share: float | None) -> None:
    path = folder / "model.safetensors"
    size = path.stat().st_size
    if share is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: int(size * share)])
    fault = "the file is missing" if share is None else f"it holds {size // 2} bytes, {size} were written"
    with pytest.raises(DamagedFile, match=f"^{path} is damaged: {fault}"):
        digests.check(folder)


def test_trainer_and_worker_refuse_a_damaged_model_before_they_use_it(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights, reader = WeightRef("sft", 1, str(folder)), WeightReader()
    assert named_tensors(weights, reader)
    flip(path, path.stat().st_size * 8 - 2)  # the exponent of the last weight
    with pytest.raises(DamagedFile, match=f"^{path} is damaged"):
        Policy.load(folder)
    with pytest.raises(WeightsRefused, match=f"^{path} is damaged"):
        named_tensors(weights, reader)
    (folder / "digests.json").unlink()  # as a checkpoint of an older version has none
    assert named_tensors(weights, reader)


def test_damage_to_what_only_training_needs_does_not_keep_the_model_from_being_read(folder: Path) -> None:
    flip(folder / "trainer_0_000.safetensors", 4000)
    Policy.load(folder)
