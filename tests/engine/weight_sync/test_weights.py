"""Weights through shared memory: whole or refused, across processes and deaths."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.context import StageFailed
from engine.protocol.messages import WeightRef
from engine.weight_sync.slots import (
    Entry,
    Slot,
    TornWeights,
    map_slot,
    open_slot,
    read_manifest,
    remove_slots,
    slot_path,
)
from engine.weight_sync.weights import WeightPublisher, WeightReader, read_weights

SPAWN = multiprocessing.get_context("spawn")


def tensors(value: float, size: int = 5) -> list[tuple[str, torch.Tensor]]:
    return [
        ("embed", torch.full((size, 3), float(value))),
        ("norm", torch.full((7,), float(value), dtype=torch.bfloat16)),
        ("scale", torch.tensor(float(value))),
    ]


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[WeightPublisher]:
    with closing(WeightPublisher("run", tmp_path)) as made:
        yield made


def test_a_version_comes_back_bit_for_bit(publisher: WeightPublisher) -> None:
    sent = [
        ("a", torch.randn(17, 3)),
        ("b.bias", torch.randn(9).to(torch.bfloat16)),
        ("c", torch.randn(2, 0)),
    ]
    received = read_weights(publisher.publish("grpo", 3, sent))
    assert list(received) == ["a", "b.bias", "c"]
    for name, tensor in sent:
        assert received[name].dtype == tensor.dtype
        assert torch.equal(received[name], tensor)


def test_versions_are_immutable_while_held_and_the_pool_grows(publisher: WeightPublisher) -> None:
    held = [publisher.publish("grpo", version, tensors(version)) for version in range(4)]
    views = [read_weights(weights) for weights in held]
    assert len({weights.location for weights in held}) == 4
    for version, view in enumerate(views):
        assert view["embed"].unique().tolist() == [version]


def test_a_slot_is_used_again_only_after_its_last_release(publisher: WeightPublisher) -> None:
    first = publisher.publish("grpo", 0, tensors(0))
    publisher.hold(first)
    publisher.release(first)
    publisher.publish("grpo", 1, tensors(1))
    assert read_weights(first)["norm"].unique().tolist() == [0]
    publisher.release(first)
    second = publisher.publish("grpo", 2, tensors(2))
    assert Path(first.location).stem == Path(second.location).stem
    with pytest.raises(TornWeights, match="no such weights"):
        read_weights(first)
    with pytest.raises(KeyError, match="not published"):
        publisher.release(first)


def test_a_reader_sees_that_its_slot_went_to_another_version(publisher: WeightPublisher) -> None:
    reader = WeightReader()
    first = publisher.publish("grpo", 0, tensors(0))
    reader.tensors(first)
    reader.verify(first)
    publisher.release(first)
    publisher.publish("grpo", 1, tensors(1))
    with pytest.raises(TornWeights):
        reader.verify(first)


def test_another_version_or_arm_than_asked_for_is_refused(publisher: WeightPublisher) -> None:
    weights = publisher.publish("grpo", 4, tensors(4))
    for arm, version in (("sft", 4), ("grpo", 5)):
        with pytest.raises(TornWeights, match="holds version 4 of arm 'grpo'"):
            read_weights(WeightRef(arm, version, weights.location))


def test_every_damaged_byte_of_the_header_is_noticed(publisher: WeightPublisher) -> None:
    weights = publisher.publish("grpo", 4, tensors(4))
    path = Path(weights.location)
    whole = path.read_bytes()
    for place in [*range(36), 40, 60]:  # header, then the manifest
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(TornWeights):
            read_weights(weights)
    for size in (0, 20, 2000, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(TornWeights):
            read_weights(weights)
    path.write_bytes(whole)
    assert read_weights(weights)["scale"].item() == 4


def _die_while_writing(folder: Path, done: Connection[Any, Any]) -> None:
    slot = Slot(slot_path("run", 0, folder), 1 << 21)
    slot.begin()
    slot.memory[1 << 20 : (1 << 20) + 4] = b"half"
    done.send(str(slot.path))
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_publisher_left_is_never_read_and_is_removed(tmp_path: Path) -> None:
    receive, send = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_die_while_writing, args=(tmp_path, send))
    process.start()
    location = receive.recv()
    process.join()
    with pytest.raises(TornWeights, match="still being written, or its writer crashed"):
        read_weights(WeightRef("grpo", 0, location))
    (tmp_path / "mathrl-run-2-@1.0").touch()  # another run, of a living process
    WeightPublisher("run", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mathrl-run-2-@1.0"]


def test_a_dead_publisher_that_nobody_has_waited_for_is_dead(tmp_path: Path) -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    (tmp_path / f"mathrl-run-@{zombie.pid}.0").touch()
    (tmp_path / f"mathrl-run-@{os.getpid()}.0").touch()
    assert remove_slots("run", tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"mathrl-run-@{os.getpid()}.0"]
    zombie.wait()


def test_slots_of_living_publishers_and_other_runs_are_left(
    publisher: WeightPublisher, tmp_path: Path
) -> None:
    mine = publisher.publish("grpo", 0, tensors(0))
    foreign = tmp_path / "mathrl-run-2-@999999999.0.v3"
    foreign.touch()
    assert remove_slots("run", tmp_path) == 0
    assert remove_slots("run-2", tmp_path) == 1
    assert read_weights(mine)["scale"].item() == 0
    publisher.close()
    assert not list(tmp_path.iterdir())


def _publish_many(folder: Path, sent: Connection[Any, Any]) -> None:
    publisher = WeightPublisher("run", folder)
    for version in range(300):
        weights = publisher.publish("grpo", version, tensors(version, size=20_000))
        publisher.release(weights)  # at once: the reader must notice when it is overtaken
        sent.send(weights)
    sent.send(None)
    sent.recv()
    publisher.close()


def test_a_reader_beside_the_publisher_gets_whole_versions_or_a_refusal(tmp_path: Path) -> None:
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=_publish_many, args=(tmp_path, there))
    process.start()
    reader = WeightReader()
    whole = refused = 0
    while (weights := here.recv()) is not None:
        try:
            values = {
                value
                for tensor in reader.tensors(weights).values()
                for value in tensor.float().unique().tolist()
            }
            reader.verify(weights)
        except TornWeights:
            refused += 1
            continue
        expected = {float(weights.version), torch.tensor(weights.version).to(torch.bfloat16).item()}
        assert values <= expected
        whole += 1
    here.send(None)
    process.join()
    assert whole + refused == 300
    assert whole > 0
    assert not list(tmp_path.iterdir())


def test_shared_memory_that_is_too_small_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="--shm-size"):
        Slot(tmp_path / "slot", 1 << 60)
    assert not list(tmp_path.iterdir())


def test_manifest_names_dtypes_shapes_and_aligned_offsets(publisher: WeightPublisher) -> None:
    weights = publisher.publish("grpo", 9, tensors(9))
    with open_slot(weights.location) as file:
        entries = read_manifest(map_slot(file, weights.location), "grpo", 9, weights.location)
    assert entries[0] == Entry("embed", "float32", (5, 3), 1 << 20, 60)
    assert entries[1] == Entry("norm", "bfloat16", (7,), (1 << 20) + 256, 14)
    assert entries[2] == Entry("scale", "float32", (), (1 << 20) + 512, 4)


Makers = list[str]


@pytest.fixture
def makers(monkeypatch: pytest.MonkeyPatch) -> Makers:
    """On which thread each slot is made."""
    found: Makers = []
    make = Slot.__init__

    def noted(slot: Slot, path: Path, size: int) -> None:
        found.append(threading.current_thread().name)
        make(slot, path, size)

    monkeypatch.setattr(Slot, "__init__", noted)
    return found


@pytest.mark.parametrize("ahead", [1, 2, 6])
def test_slots_are_made_before_they_are_needed_and_no_more_than_that(
    publisher: WeightPublisher, tmp_path: Path, makers: Makers, ahead: int
) -> None:
    publisher.prepare(tensors(0), ahead)
    for version in range(4):  # three are held at a time at most
        weights = publisher.publish("grpo", version, tensors(version))
        if version >= 2:
            publisher.release(weights)
    publisher.publish("grpo", 4, tensors(4))
    publisher.close()
    assert len(makers) == max(ahead, 3 + 1)  # one is kept in reserve
    assert all(name.startswith("spare slot") for name in makers)
    assert not list(tmp_path.iterdir())


def test_publishing_into_a_slot_in_stock_waits_for_no_other_to_be_made(
    publisher: WeightPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.prepare(tensors(0), ahead=3)
    first = publisher.publish("sft", 0, tensors(0))
    go_on = threading.Event()
    make = Slot.__init__

    def held_up(slot: Slot, path: Path, size: int) -> None:
        assert go_on.wait(60)
        make(slot, path, size)

    until_stocked(publisher)
    monkeypatch.setattr(Slot, "__init__", held_up)
    held = [first] + [publisher.publish("sft", version, tensors(version)) for version in (1, 2)]
    assert not go_on.is_set()
    assert [read_weights(weights)["scale"].item() for weights in held] == [0, 1, 2]
    go_on.set()
    publisher.close()


def test_weights_of_another_size_find_a_slot_while_one_of_the_first_is_made(
    publisher: WeightPublisher,
) -> None:
    for size in (5, 5000, 7, 9000):
        weights = publisher.publish("grpo", size, tensors(size, size))
        assert read_weights(weights)["embed"].shape == (size, 3)


def until_stocked(publisher: WeightPublisher) -> None:
    """Waits until the maker of slots has done what it was to do."""
    publisher._pool._maker.submit(lambda: None).result(60)


def test_no_room_for_a_spare_is_told_only_when_it_is_needed(
    publisher: WeightPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = publisher.publish("grpo", 0, tensors(0))
    until_stocked(publisher)

    def full(*_: object) -> None:
        raise OSError(28, "no room; enlarge it (docker run --shm-size)")

    monkeypatch.setattr(os, "posix_fallocate", full)
    publisher.publish("grpo", 1, tensors(1))  # into the spare
    with pytest.raises(StageFailed, match="--shm-size"):  # which a restart would not mend
        publisher.publish("grpo", 2, tensors(2))
    publisher.release(weights)
    publisher.publish("grpo", 2, tensors(2))
    publisher.close()


def test_lent_weights_are_held_until_they_are_given_back(publisher: WeightPublisher, tmp_path: Path) -> None:
    weights = publisher.publish("sft", 20, tensors(20))
    lent = publisher.borrow(weights)
    publisher.release(weights)
    publisher.publish("sft", 40, tensors(40))
    copy = tmp_path / "copy"
    copy.write_bytes(lent.memory)
    assert read_weights(WeightRef("sft", 20, str(copy)))["norm"].unique().tolist() == [20]
    lent.give_back()
    with pytest.raises(KeyError, match="not published"):
        publisher.release(weights)
