"""Allocate this machine's GPUs to runs.

Each GPU has one run, first come, first served. Runs with `hardware.share_gpus` use a GPU together.
Each GPU has a lock file, named after its UUID and shared by all users of the machine. A claim is inherited by
the processes that use the GPU. So it outlives a killed supervisor until these have exited. A waiting run
holds a ticket, and no run overtakes an earlier ticket for one of the same GPUs.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from profiles.errors import OperationFailed
from profiles.schema import Hardware
from store.locks import is_locked

# One folder for all users and homes of the machine. A reboot removes it.
LOCKS = Path("/tmp/mathrl-gpus")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as CUDA numbers it: `index` is the N of cuda:N.

    `memory_gib` is its total memory in GiB.
    """

    index: int
    uuid: str
    name: str
    memory_gib: float


class GpuFault(OperationFailed, RuntimeError):
    """The driver is installed, but a GPU does not respond.

    The message is one line with the remedy.
    """


class GpuClaim:
    """GPUs held through their lock files.

    A child that receives the claim at its spawn also holds it.
    """

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._descriptors = list(descriptors)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors of the lock files.

        Another process may have to hold them too.
        """
        return tuple(self._descriptors)

    def release(self) -> None:
        """Release the locks.

        The GPUs stay claimed while a child that received the claim runs.
        """
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherited, ([DupFd(descriptor) for descriptor in self._descriptors],)


def _inherited(duplicates: Sequence[Any]) -> GpuClaim:
    return GpuClaim([duplicate.detach() for duplicate in duplicates])


def visible_gpus() -> list[Gpu]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES allows, in PCI order.

    The list is empty without a driver.
    Raises: GpuFault if the driver cannot read a GPU.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        found = [_describe(pynvml, place) for place in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        raise GpuFault(
            f"NVIDIA's driver cannot list its GPUs ({error}); see nvidia-smi and dmesg, reboot or change machine"
        ) from error
    finally:
        pynvml.nvmlShutdown()
    return visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible(found: Sequence[Gpu], variable: str | None) -> list[Gpu]:
    """Select and number `found` as CUDA does for CUDA_VISIBLE_DEVICES.

    Args:
        variable: indices or UUIDs, which CUDA reads up to the first invalid one; None for all GPUs.
    """
    if variable is None:
        return list(found)
    chosen: list[Gpu] = []
    for word in (word.strip() for word in variable.split(",")):
        match = [gpu for gpu in found if word == str(gpu.index) or (word and gpu.uuid.startswith(word))]
        if not match:
            break
        chosen.append(Gpu(len(chosen), match[0].uuid, match[0].name, match[0].memory_gib))
    return chosen


def wanted(hardware: Hardware, has_worker: bool) -> list[int]:
    """Return the sorted N of every cuda:N that `hardware` uses."""
    return sorted({*_of_trainer(hardware), *(_of_worker(hardware) if has_worker else ())})


def shared(hardware: Hardware) -> list[int]:
    """Return the sorted numbers of the GPUs that trainer and worker both use."""
    return sorted(set(_of_trainer(hardware)).intersection(_of_worker(hardware)))


def left_to_trainer(hardware: Hardware) -> float:
    """Return the fraction of GPU memory for the trainer.

    It is 1, less vLLM's fraction if they share a GPU.
    """
    return 1.0 - hardware.gpu_memory_fraction if shared(hardware) and hardware.generator == "vllm" else 1.0


def _of_trainer(hardware: Hardware) -> range:
    return _range(hardware.trainer, hardware.trainer_processes)


def _of_worker(hardware: Hardware) -> range:
    return _range(hardware.worker, hardware.worker_tensor_parallel * hardware.worker_data_parallel)


def _range(device: str, count: int) -> range:
    if device == "cpu":
        return range(0)
    first = int(device.removeprefix("cuda:"))
    return range(first, first + count)


class GpuQueue:
    """This run's place in the queue for `uuids`.

    Without uuids, `claim` succeeds at once. If `shares` is true, other runs that share may use the GPUs, too.
    """

    def __init__(self, uuids: Sequence[str], root: Path = LOCKS, shares: bool = False) -> None:
        self._root = root
        self._lock = fcntl.LOCK_SH if shares else fcntl.LOCK_EX
        self._uuids = sorted(uuids)
        self._ticket: Path | None = None
        self._descriptor = -1
        if uuids:
            _make_shared(root)
            self._ticket = root / f"{time.time_ns():020d}-{os.getpid()}.ticket"
            self._descriptor = os.open(self._ticket, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            os.write(self._descriptor, "\n".join(self._uuids).encode())

    def claim(self) -> GpuClaim | None:
        """Claim all wanted GPUs.

        Return None if a run holds one and does not share it, or an earlier run waits for one. Never block.
        """
        if self._must_wait():
            return None
        held: list[int] = []
        for uuid in self._uuids:
            descriptor = _open_shared(self._root / f"{uuid}.lock")
            held.append(descriptor)
            try:
                fcntl.flock(descriptor, self._lock | fcntl.LOCK_NB)
            except BlockingIOError:
                GpuClaim(held).release()
                return None
        self.leave()
        return GpuClaim(held)

    def leave(self) -> None:
        """Leave the queue; do nothing if this run is not in it."""
        if self._ticket is not None:
            self._ticket.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._ticket = None

    def _must_wait(self) -> bool:
        if self._ticket is None:
            return False
        earlier = [path for path in self._root.glob("*.ticket") if path.name < self._ticket.name]
        return any(is_locked(path) and set(_wanted_by(path)) & set(self._uuids) for path in earlier)


def _wanted_by(ticket: Path) -> list[str]:
    try:
        return ticket.read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []


def _make_shared(root: Path) -> None:
    """Create a folder in which every user can create files.

    No user can remove those of others.
    """
    try:
        root.mkdir()
    except FileExistsError:
        return
    root.chmod(0o1777)


def _open_shared(path: Path) -> int:
    """Open a lock file that any user may have created.

    Read access is enough for flock.
    """
    while True:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            try:
                os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            except FileExistsError:
                continue


def _describe(nvml: Any, place: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(place)
    gib = nvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30
    return Gpu(place, nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle), gib)
