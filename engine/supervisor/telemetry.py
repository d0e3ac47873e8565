"""Samples of the run's GPUs, recorded as scalars.

gpu/N/utilisation is in per cent, gpu/N/memory_gib in GiB, gpu/N/power_w in W, gpu/N/temperature_c in °C. The
step is the number of seconds since the run was created. So it keeps rising after a resume, and if the clock is
set back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from engine.machine.gpus import Gpu
from store.records import Scalar

SECONDS = 5.0


class Telemetry:
    """Reads use and memory of `gpus` through NVIDIA's driver.

    Without GPUs it does not import the driver's library.
    Args:
        created: start of the run in Unix seconds; steps of the metrics are seconds since then.
    """

    def __init__(self, gpus: Sequence[Gpu], created: float) -> None:
        self._made = time.monotonic() - max(time.time() - created, 0.0)
        self._gpus = list(gpus)
        if gpus:
            import pynvml

            self._nvml = pynvml

    def read(self) -> list[Scalar]:
        """Return the current values; skip a GPU that cannot be read."""
        step = int(time.monotonic() - self._made)
        scalars: list[Scalar] = []
        for gpu in self._gpus:
            try:
                # NVML counts these calls; all but the first cost nothing.
                self._nvml.nvmlInit()
                handle = self._nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
                busy = float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
                used = self._nvml.nvmlDeviceGetMemoryInfo(handle).used / 2**30
            except self._nvml.NVMLError:
                continue
            scalars.append(Scalar(f"gpu/{gpu.index}/utilisation", step, busy))
            scalars.append(Scalar(f"gpu/{gpu.index}/memory_gib", step, used))
            scalars += self._heat(gpu.index, handle, step)
        return scalars

    def _heat(self, index: int, handle: object, step: int) -> list[Scalar]:
        """Return power and temperature, if the GPU reports them.

        A part of a GPU may not.
        """
        try:
            power = self._nvml.nvmlDeviceGetPowerUsage(handle) / 1000
            heat = float(self._nvml.nvmlDeviceGetTemperature(handle, self._nvml.NVML_TEMPERATURE_GPU))
        except self._nvml.NVMLError:
            return []
        return [Scalar(f"gpu/{index}/power_w", step, power), Scalar(f"gpu/{index}/temperature_c", step, heat)]
