"""GPU numbering, locks and the queue before them."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pynvml
import pytest

from engine.machine.gpus import Gpu, GpuClaim, GpuFault, GpuQueue, visible, visible_gpus, wanted
from engine.startup import doctor
from engine.startup.launch import LaunchError, start_run
from profiles.load import load
from profiles.schema import Hardware

FOUND = [Gpu(index, f"GPU-{letter}", "H100", 80.0) for index, letter in enumerate("abcd")]


def uuids(variable: str | None) -> list[str]:
    return [gpu.uuid for gpu in visible(FOUND, variable)]


def test_numbers_are_those_that_cuda_gives() -> None:
    assert uuids(None) == ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]
    assert uuids("2,0") == ["GPU-c", "GPU-a"]
    assert uuids("GPU-d,1") == ["GPU-d", "GPU-b"]
    assert uuids("1,9,2") == ["GPU-b"]
    assert uuids("") == uuids("-1") == []
    assert [gpu.index for gpu in visible(FOUND, "3,2")] == [0, 1]


def test_a_gpu_that_fell_off_its_bus_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(place: int) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    for name, answer in (("nvmlInit", None), ("nvmlShutdown", None), ("nvmlDeviceGetCount", 2)):
        monkeypatch.setattr(pynvml, name, lambda answer=answer: answer)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lost)
    with pytest.raises(GpuFault, match="GPU is lost.*reboot or change machine"):
        visible_gpus()
    with pytest.raises(LaunchError, match="GPU is lost"):
        start_run(tmp_path / "home", load("demo"), ("data",), 0)
    (check,) = doctor.gpus(tmp_path)
    assert (check.status, "nvidia-smi" in check.remedy) == ("fail", True)
    assert {check.status for check in doctor.disk(tmp_path)} <= {"ok", "warn"}


def test_a_profile_wants_the_gpus_of_every_process() -> None:
    assert wanted(Hardware(), has_worker=True) == [0, 1]
    assert wanted(Hardware(), has_worker=False) == [0]
    assert wanted(Hardware(trainer="cpu", worker="cpu"), has_worker=True) == []
    assert wanted(Hardware(trainer="cuda:0", worker="cuda:0"), has_worker=True) == [0]
    many = Hardware(trainer_processes=2, worker="cuda:2", worker_tensor_parallel=2, worker_data_parallel=3)
    assert wanted(many, has_worker=True) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_who_comes_first_is_served_first(tmp_path: Path) -> None:
    first, second, third = (GpuQueue(["a"], tmp_path) for _ in range(3))
    other = GpuQueue(["b"], tmp_path)
    assert second.claim() is None  # free, but not its turn
    claim = first.claim()
    assert claim is not None
    assert second.claim() is None
    assert other.claim() is not None
    claim.release()
    assert third.claim() is None
    second.leave()
    assert third.claim() is not None


def test_runs_that_share_use_a_gpu_together(tmp_path: Path) -> None:
    first, second = (GpuQueue(["a"], tmp_path, shares=True) for _ in range(2))
    alone = GpuQueue(["a"], tmp_path)
    late = GpuQueue(["a"], tmp_path, shares=True)
    shared = [first.claim(), second.claim()]
    assert None not in shared
    assert alone.claim() is None
    # It could share the GPU, but an earlier run waits for it.
    assert late.claim() is None
    for claim in shared:
        assert claim is not None
        claim.release()
    claim = alone.claim()
    assert claim is not None
    assert late.claim() is None
    claim.release()
    assert late.claim() is not None


def test_all_the_gpus_or_none(tmp_path: Path) -> None:
    held = GpuQueue(["b"], tmp_path).claim()
    assert held is not None
    both = GpuQueue(["a", "b"], tmp_path)
    assert both.claim() is None
    both.leave()
    assert GpuQueue(["a"], tmp_path).claim() is not None


def test_no_gpus_no_queue(tmp_path: Path) -> None:
    assert GpuQueue([], tmp_path / "none").claim() is not None
    assert not (tmp_path / "none").exists()


def hold_until_told(claim: GpuClaim, connection: Connection) -> None:
    connection.send("held")
    connection.recv()


def queue_up(root: Path) -> None:
    GpuQueue(["a"], root)
    os._exit(0)  # dies with its ticket in its hand


def test_a_child_keeps_the_claim_that_its_dead_parent_gave_it(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    claim = GpuQueue(["a"], tmp_path).claim()
    assert claim is not None
    child = spawn.Process(target=hold_until_told, args=(claim, theirs))
    child.start()
    assert ours.recv() == "held"
    claim.release()
    successor = GpuQueue(["a"], tmp_path)
    assert successor.claim() is None
    ours.send("go")
    child.join()
    assert successor.claim() is not None


def test_the_ticket_of_a_dead_process_holds_up_nobody(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=queue_up, args=(tmp_path,))
    process.start()
    process.join()
    assert list(tmp_path.glob("*.ticket"))
    assert GpuQueue(["a"], tmp_path).claim() is not None
