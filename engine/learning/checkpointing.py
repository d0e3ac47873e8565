"""Gradient checkpointing of a model in eval mode.

transformers checkpoints a layer only while the layer is in training mode, which would also turn its dropout on. So
each layer's forward is wrapped here, and the layer stays in eval mode.
"""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from engine.learning.unsupported import UnsupportedModel


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Make backward compute the activations of each of the model's layers again, in place of keeping them.

    Raises: UnsupportedModel if the model has no layers that transformers can checkpoint.
    """
    layers = decoder_layers(model)
    if not layers:
        raise UnsupportedModel(
            f"model type {model.config.model_type!r} does not support gradient checkpointing; "
            "set gradient_checkpointing = false"
        )
    for layer in layers:
        # Nothing draws random numbers in eval mode, so their state need not be kept.
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)


def decoder_layers(module: nn.Module) -> list[nn.Module]:
    """Return the layers that transformers can checkpoint and that lie in no other such layer."""
    found: list[nn.Module] = []
    for child in module.children():
        found += [child] if isinstance(child, GradientCheckpointingLayer) else decoder_layers(child)
    return found
