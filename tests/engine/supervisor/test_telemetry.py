"""What a run's GPUs do, step by step: a step for every moment, whatever becomes of the clock on the wall."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from engine.machine.gpus import Gpu
from engine.supervisor import telemetry
from engine.supervisor.telemetry import Telemetry

NVML = SimpleNamespace(
    NVMLError=RuntimeError,
    nvmlInit=lambda: None,
    nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
    nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=87),
    nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=3 << 30),
    nvmlDeviceGetPowerUsage=lambda handle: 512_500,
    NVML_TEMPERATURE_GPU=0,
    nvmlDeviceGetTemperature=lambda handle, sensor: 61,
)


def test_a_gpu_without_a_power_meter_reports_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> float:
        raise NVML.NVMLError("not supported")

    without = SimpleNamespace(**{**vars(NVML), "nvmlDeviceGetPowerUsage": refused})
    monkeypatch.setitem(sys.modules, "pynvml", without)
    seen = Telemetry([Gpu(0, "GPU-0", "a GPU", 80.0)], created=0.0)
    assert [row.metric for row in seen.read()] == ["gpu/0/utilisation", "gpu/0/memory_gib"]


def test_a_clock_that_is_set_back_repeats_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = {"wall": 5000.0, "running": 70.0}
    clock = SimpleNamespace(time=lambda: moment["wall"], monotonic=lambda: moment["running"])
    monkeypatch.setattr(telemetry, "time", clock)
    monkeypatch.setitem(sys.modules, "pynvml", NVML)
    seen = Telemetry([Gpu(1, "GPU-1", "a GPU", 80.0)], created=4900.0)  # a resume, after 100 s
    first = seen.read()
    assert [(row.metric, row.step, row.value) for row in first] == [
        ("gpu/1/utilisation", 100, 87.0),
        ("gpu/1/memory_gib", 100, 3.0),
        ("gpu/1/power_w", 100, 512.5),
        ("gpu/1/temperature_c", 100, 61.0),
    ]
    moment |= {"wall": 1405.0, "running": 75.0}
    assert [row.step for row in seen.read()] == [105] * 4
