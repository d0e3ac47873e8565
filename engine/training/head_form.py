"""Find by experiment how a model turns hidden states into logits.

    body ─▶ hidden ─▶ (× hidden_scale) ─▶ output embedding ─▶ raw ─▶ (× scale, soft cap) ─▶ logits

The experiment runs the model once on a few tokens. It compares the output embedding's input with the body's
output. It replaces the output embedding's output by known numbers and reads the resulting logits. So the form
follows from what the model computes, not from the name of a setting.
A form that `engine.training.head` cannot express raises UnsupportedModel.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine.training.head import Form, Head
from engine.training.own_forward import own_path
from engine.training.unsupported import UnsupportedModel

TOKENS = 4
# Relative error of a fitted form, in float32. A wrong form has a much larger error.
TOLERANCE = 1e-5


def output_embedding(model: PreTrainedModel) -> nn.Linear:
    """Return the layer that maps hidden states to logits.

    Raises: UnsupportedModel if the model has no such layer.
    """
    layer = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        raise UnsupportedModel(f"{_name(model)}: the model has no linear output embedding")
    return cast(nn.Linear, layer)


def body_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return the decoder that turns ids into the hidden states below the head.

    Raises: UnsupportedModel if the model has no such part.
    """
    body: PreTrainedModel = model.get_decoder()  # type: ignore[no-untyped-call]
    if body is model:
        raise UnsupportedModel(f"{_name(model)}: its body and its head are one module")
    return body


def head_of(model: PreTrainedModel, form: Form) -> Head:
    """Return the head of `model` with its current weights, not copied."""
    layer = output_embedding(model)
    return Head(layer.weight, getattr(layer, "bias", None), form)


@torch.no_grad()
def observed_form(model: PreTrainedModel) -> Form:
    """Find the form of the model's head.

    Raises: UnsupportedModel if `Form` cannot express how the model computes its logits.
    """
    layer = output_embedding(model)
    probe = _probe(len(layer.weight), model.device)
    seen: dict[str, Tensor] = {}

    def body_output(_: nn.Module, __: Any, output: Any) -> None:
        seen["body"] = output[0]

    def replaced(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen["input"], seen["raw"] = inputs[0], output
        return probe

    hooks = (body_of(model).register_forward_hook(body_output), layer.register_forward_hook(replaced))
    ids = torch.arange(TOKENS, device=model.device)[None] % len(layer.weight)
    try:
        with own_path(model):
            logits = model(input_ids=ids, use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
    if seen.keys() != {"body", "input", "raw"}:
        raise UnsupportedModel(f"{_name(model)}: its logits do not come from its output embedding")
    scale, cap = _fitted(model, probe, logits)
    return Form(_hidden_scale(model, layer, seen), scale, cap)


def _probe(vocabulary: int, device: torch.device) -> Tensor:
    """Return shuffled numbers of both signs from 1e-3 to 1e6.

    They are float64 `(1, tokens, vocabulary)`.
    """
    half = torch.logspace(-3, 6, 32, dtype=torch.float64)
    values = torch.cat([half, -half]).repeat(-(-TOKENS * vocabulary // 64))[: TOKENS * vocabulary]
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    return values[order].view(1, TOKENS, vocabulary).to(device)


def _fitted(model: PreTrainedModel, probe: Tensor, logits: Tensor) -> tuple[float | None, float | None]:
    """Return the scale and the soft cap that give `logits` from `probe`."""
    if logits.shape != probe.shape:
        raise UnsupportedModel(
            f"{_name(model)}: {logits.shape[-1]} logits from an output embedding of {probe.shape[-1]} rows"
        )
    given, made = probe.flatten(), logits.flatten().double()
    order = given.argsort()
    given, made = given[order], made[order]
    smallest, large = given.abs().argmin(), made[given > 1e5]
    # tanh is 1 far beyond a cap, so the largest logits all equal the cap. Without a cap they grow with the
    # probe.
    cap = float(large[-1]) if torch.allclose(large, large[-1], rtol=TOLERANCE, atol=0.0) else None
    slope = made[smallest] if cap is None else torch.atanh(made[smallest] / cap) * cap
    factor = float(slope / given[smallest])
    scale = None if abs(factor - 1.0) < 1e-6 else factor
    expected = given if scale is None else given * scale
    if cap is not None:
        expected = torch.tanh(expected / cap) * cap
    if not torch.allclose(made, expected, rtol=TOLERANCE, atol=0.0):
        raise UnsupportedModel(f"{_name(model)}: its logits are not a scaled or soft-capped linear map")
    return scale, cap


def _hidden_scale(model: PreTrainedModel, layer: nn.Linear, seen: dict[str, Tensor]) -> float | None:
    """Return the factor between body output and embedding input.

    The embedding is the output embedding. The factor is constant.
    """
    body, taken = seen["body"].double(), seen["input"].double()
    linear = nn.functional.linear(seen["input"], layer.weight, getattr(layer, "bias", None))
    close = taken.shape == body.shape and seen["raw"].shape == linear.shape
    if not close or not torch.allclose(seen["raw"], linear, rtol=1e-3, atol=1e-3):
        raise UnsupportedModel(
            f"{_name(model)}: its output embedding is not a linear map of the hidden states"
        )
    if torch.equal(body, taken):
        return None
    factor = float((taken * body).sum() / body.square().sum())
    if not torch.allclose(taken, body * factor, rtol=TOLERANCE, atol=TOLERANCE * float(taken.abs().max())):
        raise UnsupportedModel(f"{_name(model)}: it has layers between its last hidden states and its head")
    return factor


def _name(model: PreTrainedModel) -> str:
    return f"model type {model.config.model_type!r}"
