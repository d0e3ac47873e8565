"""A policy trains without dropout, layer drop and router noise, whatever its checkpoint's config holds."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from engine.training.checkpointing import decoder_layers
from engine.training.packing import lay_out
from engine.training.policy import Policy
from tests.bench import architectures
from tests.support import families
from tests.support.tiny_models import random_sequences

RANDOM = {
    "GPT-2": {},  # 0.1 by default, in three places
    "OPT": {"dropout": 0.3, "attention_dropout": 0.3, "layerdrop": 0.5},
    "Mixtral": {"attention_dropout": 0.3, "router_jitter_noise": 0.3},
    "BioGPT": {"layerdrop": 0.5, "activation_dropout": 0.3},
}


def model_of(family: str) -> PreTrainedModel:
    model_type, changes = families.FAMILIES[family]
    base = {} if "n_embd" in changes else families._BASE
    config = AutoConfig.for_model(model_type, **(base | changes | RANDOM[family]))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    families.widen(model)
    return model


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", RANDOM)
def test_nothing_random_remains_in_a_policy(family: str, checkpointing: bool) -> None:
    model = model_of(family)
    live = copy.deepcopy(model).train()
    ids = torch.arange(20)[None] + 2
    assert not torch.equal(live(input_ids=ids).logits, live(input_ids=ids).logits), (
        "the test needs randomness"
    )

    policy = Policy(model, gradient_checkpointing=checkpointing)
    packed = lay_out(random_sequences(5, vocabulary=families.VOCABULARY), range(5))
    before = torch.get_rng_state()
    outcomes = []
    for _ in range(2):
        loss, _tokens = policy.cross_entropy(packed)
        loss.backward()
        outcomes.append([loss.detach(), *(weight.grad for weight in model.parameters())])
        policy.clear_gradients()
    assert torch.equal(torch.get_rng_state(), before)
    for once, again in zip(*outcomes, strict=True):
        assert once is again is None or torch.equal(once, again)


def test_gpt2_with_its_default_dropout_trains_and_samples_as_plain_transformers(tmp_path: Path) -> None:
    row = architectures.compare("GPT-2", tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).resid_pdrop == 0.1
    assert row.equal


def test_checkpointing_computes_each_layer_again_in_backward() -> None:
    model = model_of("GPT-2")
    policy = Policy(model, gradient_checkpointing=True)
    layers = decoder_layers(model)
    assert len(layers) == 2 and not any(module.training for module in model.modules())
    runs: list[nn.Module] = []
    for layer in layers:
        layer.mlp.register_forward_pre_hook(lambda module, _: runs.append(module))
    loss, _ = policy.cross_entropy(lay_out(random_sequences(3), range(3)))
    assert len(runs) == 2
    loss.backward()
    assert len(runs) == 4
