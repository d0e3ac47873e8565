"""Memory of several copies of a vLLM engine on one GPU.

vLLM measures the memory that a model needs by what the GPU loses during a trial. Copies that start together
would count each other's allocations. So each receives its cache size instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engine.generators.interface import WeightsRefused
from profiles.schema import Hardware

# What an engine takes besides weights, logits, keys and values: CUDA's context, CUDA graphs, activations.
# Measured for a 1.4 B model with 512 sequences on an H100: 1.3 GiB, and 0.5 GiB of graphs.
WORKSPACE_BYTES = 5 << 29
SMALLEST_CACHE_BYTES = 1 << 30
# More copies did not help: four keep an H100 busy with a 1.4 B model, and six were slower with one of 135 M.
MOST_COPIES = 4


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


def found_copies(
    memory: int, hardware: Hardware, item: int, shapes: Mapping[str, tuple[int, ...]], config: Any
) -> int:
    """Return how many copies of a model fit on one GPU: 4, 2 or 1.

    They fit if each has a cache for its part of hardware.max_sequences at half of hardware.max_model_len.
    Args:
        memory: all of the GPU's memory, bytes.
        item: size of one weight, bytes.
        shapes: of all weights.
        config: the model's configuration, as transformers reads it.
    """
    for copies in (MOST_COPIES, MOST_COPIES // 2):
        sequences = -(-hardware.max_sequences // copies)
        fraction = hardware.gpu_memory_fraction / copies
        part = hardware.model_copy(update={"worker_copies": copies, "gpu_memory_fraction": fraction})
        needed = sequences * hardware.max_model_len / 2 * token_bytes(config, item)
        try:
            if cache_bytes(memory, part, item, shapes, sequences * config.vocab_size) >= needed:
                return copies
        except WeightsRefused:
            continue
    return 1


def token_bytes(config: Any, item: int) -> int:
    """Return the size of one token's keys and values in all layers, bytes.

    `item` is the size of one number, bytes.
    """
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * item * config.num_hidden_layers * heads * head_dim)
