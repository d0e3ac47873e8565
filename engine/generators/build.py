"""Makes the generator that a profile asks for."""

from __future__ import annotations

import os
from collections.abc import Callable

from engine.generators.checkpoint import model_folder, torch_dtype
from engine.generators.interface import Generator, WeightsRefused
from profiles import Profile

Phase = Callable[[str, str], None]  # name of a start-up phase, and a detail


def build(profile: Profile, source: str, phase: Phase) -> Generator:
    """The generator with the model at `source` (folder or hub name), ready to load weights."""
    hardware = profile.hardware
    phase("loading", source)
    folder = model_folder(source, profile.model.revision)
    if hardware.worker_threads:
        os.environ["OMP_NUM_THREADS"] = str(hardware.worker_threads)
    if hardware.generator == "vllm":
        if hardware.worker != "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = visible_devices(
                hardware.worker, hardware.worker_tensor_parallel, os.environ.get("CUDA_VISIBLE_DEVICES", "")
            )
        from engine.generators.vllm import VllmGenerator

        generator: Generator = VllmGenerator(folder, hardware, profile.model.compute_dtype, phase)
    else:
        import torch

        from engine.generators.transformers import TransformersGenerator

        if hardware.worker_threads:
            torch.set_num_threads(hardware.worker_threads)
        generator = TransformersGenerator(
            folder,
            hardware.worker,
            torch_dtype(profile.model.compute_dtype),
            hardware.max_sequences,
            hardware.max_model_len,
        )
    phase("ready", "")
    return generator


def visible_devices(first: str, count: int, visible: str) -> str:
    """CUDA_VISIBLE_DEVICES for `count` devices from `first` ("cuda:1") on, where it says `visible` now."""
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
