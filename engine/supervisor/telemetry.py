"""How busy and how full the run's GPUs are, as scalars gpu/N/utilisation (per cent) and gpu/N/memory_gib.

Steps are seconds since the run was made, so that they go on rising over a resume, and when the clock is set back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from engine.gpus import Gpu
from store.records import Scalar

SECONDS = 5.0


class Telemetry:
    """Reads the GPUs that it is given, as far as the driver lets it; without any it loads nothing."""

    def __init__(self, gpus: Sequence[Gpu], created: float) -> None:
        self._made = time.monotonic() - max(time.time() - created, 0.0)
        self._gpus = list(gpus)
        if gpus:
            import pynvml

            self._nvml = pynvml

    def read(self) -> list[Scalar]:
        """The present values; a GPU that cannot be asked is left out."""
        step = int(time.monotonic() - self._made)
        scalars: list[Scalar] = []
        for gpu in self._gpus:
            try:
                self._nvml.nvmlInit()  # counts its calls: all but the first cost nothing
                handle = self._nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
                busy = float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
                used = self._nvml.nvmlDeviceGetMemoryInfo(handle).used / 2**30
            except self._nvml.NVMLError:
                continue
            scalars.append(Scalar(f"gpu/{gpu.index}/utilisation", step, busy))
            scalars.append(Scalar(f"gpu/{gpu.index}/memory_gib", step, used))
        return scalars
