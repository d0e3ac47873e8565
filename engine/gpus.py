"""Which GPUs this machine has, and who may use them: one run a GPU, first come, first served.

Each GPU has a lock file named for its UUID, for all users of the machine. A claim is handed on to the processes that
use the GPU, so that it outlives a supervisor that is killed for as long as they do. Runs that wait hold a ticket, and
nobody passes an earlier ticket that wants one of the same GPUs.
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

from profiles.schema import Hardware
from store.locks import is_locked

LOCKS = Path("/tmp/mathrl-gpus")  # one place for every user and home of the machine, gone with a reboot


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as CUDA numbers it: `index` is the N of cuda:N."""

    index: int
    uuid: str
    name: str
    memory_gib: float


class GpuFault(RuntimeError):
    """The driver is there and a GPU does not answer it; the message is one line with what to do."""


class GpuClaim:
    """GPUs held through their lock files. Sent to a child while it is spawned, it is held by the child as well."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._descriptors = list(descriptors)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The held lock files, to be passed on to a process that is to hold them too."""
        return tuple(self._descriptors)

    def release(self) -> None:
        """Lets go; the GPUs stay claimed while a child that was given the claim lives."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherited, ([DupFd(descriptor) for descriptor in self._descriptors],)


def _inherited(duplicates: Sequence[Any]) -> GpuClaim:
    return GpuClaim([duplicate.detach() for duplicate in duplicates])


def visible_gpus() -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in PCI order; none where there is no driver. GpuFault."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        found = [_describe(pynvml, place) for place in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        raise GpuFault(
            f"NVIDIA's driver cannot tell its GPUs ({error}); see nvidia-smi and dmesg, reboot or take another machine"
        ) from error
    finally:
        pynvml.nvmlShutdown()
    return visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible(found: Sequence[Gpu], variable: str | None) -> list[Gpu]:
    """`found` as CUDA numbers them under CUDA_VISIBLE_DEVICES: indices or UUIDs, up to the first wrong one."""
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
    """Numbers N of every cuda:N that a run on `hardware` uses, in order."""
    return sorted({*_of_trainer(hardware), *(_of_worker(hardware) if has_worker else ())})


def shared(hardware: Hardware) -> list[int]:
    """Those of them that trainer and worker both use."""
    return sorted(set(_of_trainer(hardware)).intersection(_of_worker(hardware)))


def left_to_trainer(hardware: Hardware) -> float:
    """The share of its GPU's memory that a trainer may take: all, but for vLLM's where that is on the same GPU."""
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
    """This run's place in the queue for `uuids`. No uuids: `claim` succeeds at once."""

    def __init__(self, uuids: Sequence[str], root: Path = LOCKS) -> None:
        self._root = root
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
        """Every wanted GPU, or None where one is held or somebody who came earlier waits for one. Never waits."""
        if self._must_wait():
            return None
        held: list[int] = []
        for uuid in self._uuids:
            descriptor = _open_shared(self._root / f"{uuid}.lock")
            held.append(descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                GpuClaim(held).release()
                return None
        self.leave()
        return GpuClaim(held)

    def leave(self) -> None:
        """Gives the place in the queue up."""
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
    """A folder where every user may make files and none may remove another's."""
    try:
        root.mkdir()
    except FileExistsError:
        return
    root.chmod(0o1777)


def _open_shared(path: Path) -> int:
    """Opens a lock file that any user may have made. Reading is enough for flock."""
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
