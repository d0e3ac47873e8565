"""Memory of several copies of a vLLM engine on one GPU.

vLLM measures how much memory a model needs by what the GPU loses while it is tried. Copies that start together would
count one another's allocations, so each is given its cache size instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from engine.generators.interface import WeightsRefused
from profiles.schema import Hardware

# What an engine takes besides weights, logits, keys and values: CUDA's context, CUDA graphs, activations.
# Measured for a 1.4 B model with 512 sequences on an H100: 1.3 GiB, and 0.5 GiB of graphs.
WORKSPACE_BYTES = 5 << 29
SMALLEST_CACHE_BYTES = 1 << 30


def cache_bytes(
    memory: int, hardware: Hardware, item: int, shapes: Mapping[str, tuple[int, ...]], logits: int
) -> int:
    """Return the memory for keys and values of one copy, bytes.

    Args:
        memory: all of the GPU's memory, bytes.
        hardware: of this copy; its gpu_memory_fraction is the copy's own part.
        item: size of one weight, bytes.
        shapes: of all weights.
        logits: elements of the logits of one decode step.
    Raises: WeightsRefused if the copy's part of the GPU leaves too little.
    """
    weights = item * sum(map(math.prod, shapes.values())) / hardware.worker_tensor_parallel
    # In the model's dtype, and twice in float32 while a token is drawn.
    drawing = logits * (item + 8)
    left = int(memory * hardware.gpu_memory_fraction - weights - drawing - WORKSPACE_BYTES)
    if left < SMALLEST_CACHE_BYTES:
        raise WeightsRefused(
            f"hardware.worker_copies={hardware.worker_copies}: each copy would have {left / 2**30:.1f} GiB for keys "
            f"and values, and needs {SMALLEST_CACHE_BYTES / 2**30:.0f}; lower it"
        )
    return left
