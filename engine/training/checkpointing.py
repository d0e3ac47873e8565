"""Gradient checkpointing of a model in eval mode.

transformers checkpoints a layer only in training mode, which would also enable its dropout. So this module
wraps each layer's forward, and the layer stays in eval mode.
"""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from engine.training.unsupported import UnsupportedModel


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Recompute each layer's activations in backward instead of keeping them.

    Raises: UnsupportedModel if the model has no layers that transformers can checkpoint.
    """
    layers = decoder_layers(model)
    if not layers:
        raise UnsupportedModel(
            f"model type {model.config.model_type!r} does not support gradient checkpointing; "
            "set gradient_checkpointing = false"
        )
    for layer in layers:
        # A model in eval mode draws no random numbers, so their state need not be kept.
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)


def decoder_layers(module: nn.Module) -> list[nn.Module]:
    """Return the outermost layers that transformers can checkpoint."""
    found: list[nn.Module] = []
    for child in module.children():
        found += [child] if isinstance(child, GradientCheckpointingLayer) else decoder_layers(child)
    return found
