"""Run a transformers body with keys and values kept in `prefix`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine.generators import prefix
from engine.training.head import Form
from engine.training.head_form import body_of, observed_form
from engine.training.unsupported import UnsupportedModel

# Largest difference from rounding, relative to the largest hidden state.
DIFFERENCE = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}


def hidden_states(model: PreTrainedModel, ids: Tensor, positions: Tensor, memory: prefix.Memory) -> Tensor:
    """Compute the last hidden states of `ids` at `positions`.

    Args:
        ids: (rows, tokens); positions likewise.
    Returns: (rows, tokens, width).
    """
    output = body_of(model)(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        position_ids=positions,
        use_cache=False,
        memory=memory,
    )
    hidden: Tensor = output.last_hidden_state
    return hidden


def prepared(model: PreTrainedModel, device: torch.device) -> tuple[PreTrainedModel, Form]:
    """Prepare `model` on `device`; return it and the form of its head.

    Raises: UnsupportedModel if a layer of the model keeps state that `prefix` does not see.
    """
    nn.Module.eval(nn.Module.to(model, device)).requires_grad_(False)
    form = observed_form(model)
    model.set_attn_implementation(prefix.register())
    name = f"model type {model.config.model_type!r}"
    if model.config._attn_implementation != prefix.ATTENTION:
        raise UnsupportedModel(f"{name}: transformers cannot replace this family's attention")
    try:
        with torch.inference_mode():
            _check_memory(model, device)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{name}: {error}") from error
    except (TypeError, AttributeError) as error:
        raise UnsupportedModel(f"{name}: its forward pass cannot keep keys and values: {error}") from error
    return model, form


def _check_memory(model: PreTrainedModel, device: torch.device) -> None:
    """Read three tokens at once, then two tokens and the third from memory.

    Raises: UnsupportedModel if a layer does not attend exactly once, or if the last token's hidden states
        differ. In the second case a layer has state besides keys and values.
    """
    ids = torch.tensor([[2, 0, 1]], device=device)
    places = torch.arange(3, device=device)[None]
    nothing, prefill = prefix.Nothing(), prefix.Prefill(1, 2)
    whole = hidden_states(model, ids, places, nothing)[:, -1].float()
    if nothing.layers != list(range(model.config.get_text_config().num_hidden_layers)):
        raise UnsupportedModel("it has layers that do not use attention exactly once")
    prefill.begin(torch.zeros(1, dtype=torch.long, device=device))
    hidden_states(model, ids[:, :2], places[:, :2], prefill)
    decode = prefix.Decode(prefill, torch.tensor([2], device=device), torch.tensor([0], device=device))
    decode.begin()
    last = hidden_states(model, ids[:, 2:], places[:, 2:], decode)[:, -1].float()
    tolerance = DIFFERENCE[model.dtype] * float(whole.abs().max())
    if not torch.allclose(last, whole, rtol=0.0, atol=tolerance):
        raise UnsupportedModel("a layer has state besides keys and values, which is not supported")
