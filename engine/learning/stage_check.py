"""Load a policy to train, and compare it on its own device and in its own dtype with the model's own forward."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from engine.learning.own_forward import packed_logprobs
from engine.learning.policy import DTYPES, Policy, read_model
from engine.learning.self_check import Tolerance, probes, reference
from engine.learning.unsupported import UnsupportedModel
from engine.ranks import rank, united


def checked_policy(
    source: str | Path,
    device: torch.device,
    compute_dtype: str,
    gradient_checkpointing: bool,
    revision: str = "main",
) -> tuple[Policy, Tolerance]:
    """Load the model in folder or hub name `source`; return it and what rounding may do to its log-probs there.

    Every rank must call it. Raises: UnsupportedModel, on every rank, if the packed path does not compute the model on
    some rank; and what `Policy.load` raises.
    """
    model = nn.Module.to(read_model(source, revision), device)
    # Policy patches kernels in, rounds the weights and shards them, so the reference comes first.
    expected = reference(model, probes(model), DTYPES[compute_dtype])
    policy = Policy(model, str(device), compute_dtype, gradient_checkpointing)
    fault = expected.fault(packed_logprobs(policy, expected.sequences))
    faults = [found for _, found in sorted(united({rank(): fault}).items()) if found]
    if faults:
        raise UnsupportedModel(
            f"{source}: the packed path on {device.type} in {compute_dtype} does not compute this model: {faults[0]}"
        )
    return policy, expected.allowed
