"""Build the generator that a profile requests."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from engine.artifacts import digests
from engine.generators.checkpoint import model_folder, torch_dtype
from engine.generators.copies import GeneratorCopies
from engine.generators.interface import Generator, WeightsRefused
from engine.generators.mps import start_mps
from engine.generators.placement import placements
from engine.generators.shared_gpu import found_copies
from engine.machine.gpus import shared, visible_gpus
from profiles.schema import Hardware, Profile

# Called with the name of a start-up phase, and a detail.
PhaseReport = Callable[[str, str], None]


def build(profile: Profile, source: str, phase: PhaseReport, trainer_idle: bool = False) -> Generator:
    """Build the generator of the model `source`, ready to load weights.

    `source` is a folder or hub name. If several devices have room (engine.generators.placement), the
    generator consists of as many copies.
    """
    dtype = profile.model.compute_dtype
    phase("loading", source)
    folder = model_folder(source, profile.model.revision)
    hardware = with_copies(profile.hardware, folder, dtype)
    placed = placements(hardware, trainer_idle)
    if len(placed) == 1:
        generator = one(folder, placed[0], dtype, phase)
    else:
        if hardware.worker_copies > 1:
            device = visible_devices(hardware.worker, 1, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
            os.environ.update(start_mps(device))
        generator = GeneratorCopies([partial(one, folder, each, dtype, _to_log) for each in placed])
    phase("ready", "")
    return generator


def with_copies(hardware: Hardware, folder: Path, dtype: str) -> Hardware:
    """Return `hardware` with worker_copies set to the copies on each GPU.

    worker_copies = 0 in `hardware` means that the number is computed from the memory.
    """
    if hardware.generator != "vllm" or hardware.worker == "cpu":
        return hardware.model_copy(update={"worker_copies": 1})
    if hardware.worker_copies:
        return hardware
    copies = 1
    # A trainer on the same GPU, or a model split over several GPUs, allows only one copy.
    if hardware.worker_tensor_parallel == 1 and not shared(hardware):
        from transformers import AutoConfig

        from engine.generators.vllm import weight_shapes

        config = AutoConfig.from_pretrained(folder)
        memory = {gpu.index: gpu.memory_gib for gpu in visible_gpus()}[
            int(hardware.worker.removeprefix("cuda:"))
        ]
        item = torch_dtype(dtype).itemsize
        copies = found_copies(int(memory * 2**30), hardware, item, weight_shapes(config), config)
    return hardware.model_copy(update={"worker_copies": copies})


def one(folder: Path, hardware: Hardware, dtype: str, phase: PhaseReport) -> Generator:
    """Build one generator in this process.

    It sets environment variables that the generator's library reads when it is imported.
    Raises: WeightsRefused if the generator cannot run the model.
    """
    if hardware.worker_threads:
        os.environ["OMP_NUM_THREADS"] = str(hardware.worker_threads)
    if hardware.generator == "vllm":
        if hardware.worker != "cpu":
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            devices = visible_devices(hardware.worker, hardware.worker_tensor_parallel, visible)
            os.environ["CUDA_VISIBLE_DEVICES"] = devices
        try:
            digests.check(folder, digests.of_model)
        except digests.DamagedFile as error:
            raise WeightsRefused(str(error)) from error
        from engine.generators.vllm import VllmGenerator

        return VllmGenerator(folder, hardware, dtype, phase)
    import torch

    from engine.generators.transformers import TransformersGenerator

    if hardware.worker_threads:
        torch.set_num_threads(hardware.worker_threads)
    return TransformersGenerator(
        folder, hardware.worker, torch_dtype(dtype), hardware.max_sequences, hardware.max_model_len
    )


def _to_log(phase: str, detail: str) -> None:
    print(f"{phase} {detail}", flush=True)


def visible_devices(first: str, count: int, visible: str) -> str:
    """Return the CUDA_VISIBLE_DEVICES of a child with `count` devices.

    Args:
        first: the first device as this process numbers it, such as "cuda:1".
        visible: this process's own CUDA_VISIBLE_DEVICES; "" if it is not set.
    Raises: WeightsRefused if `visible` lists too few devices.
    """
    start = int(first.removeprefix("cuda:"))
    wanted = range(start, start + count)
    if not visible:
        return ",".join(map(str, wanted))
    named = visible.split(",")
    if len(named) <= wanted[-1]:
        raise WeightsRefused(
            f"{first} and {count - 1} more: CUDA_VISIBLE_DEVICES={visible} names only {len(named)}"
        )
    return ",".join(named[place] for place in wanted)
