"""Load a policy to train, and compare it with the model's own forward.

The comparison runs on the policy's own device and in its own dtype.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from engine.machine.ranks import gather, rank
from engine.training.own_forward import packed_logprobs
from engine.training.policy import DTYPES, Policy, read_model
from engine.training.self_check import Tolerance, probes, reference
from engine.training.unsupported import UnsupportedModel


def checked_policy(
    source: str | Path,
    device: torch.device,
    compute_dtype: str,
    gradient_checkpointing: bool,
    revision: str = "main",
) -> tuple[Policy, Tolerance]:
    """Load the model in `source`, and check the packed path.

    `source` is a folder or a hub name.
    Every rank must call.
    Returns: the policy, and the difference that rounding may cause in its log-probs.
    Raises: UnsupportedModel, on every rank, if the packed path does not compute the model on some rank; and
        the errors of `Policy.load`.
    """
    model = nn.Module.to(read_model(source, revision), device)
    # Compute the reference first: Policy patches kernels in, rounds the weights and shards them.
    expected = reference(model, probes(model), DTYPES[compute_dtype])
    policy = Policy(model, str(device), compute_dtype, gradient_checkpointing)
    fault = expected.fault(packed_logprobs(policy, expected.sequences))
    faults = [found for _, found in sorted(gather({rank(): fault}).items()) if found]
    if faults:
        raise UnsupportedModel(
            f"{source}: the packed path on {device.type} in {compute_dtype} does not compute this model: {faults[0]}"
        )
    return policy, expected.allowed
