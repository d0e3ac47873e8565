"""Small random causal LMs and random sequences for tests of training."""

from __future__ import annotations

import copy

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, Qwen2Config, Qwen3Config

from engine.data.sequence import TokenSequence

VOCABULARY = 61
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": None,
}
CONFIGS = {"qwen2": Qwen2Config, "qwen3": Qwen3Config, "llama": LlamaConfig}


def tiny_model(kind: str = "qwen2", tied: bool = True, seed: int = 0, **shape: int) -> PreTrainedModel:
    """A model whose random weights give clearly uneven distributions."""
    head = {"head_dim": 12} if kind == "qwen3" else {}
    config = CONFIGS[kind](**(SHAPE | head | shape), tie_word_embeddings=tied)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.2) if weight.dim() > 1 else weight.add_(torch.randn_like(weight) * 0.1)
    return model


def twin(model: PreTrainedModel) -> PreTrainedModel:
    """A separate model with the same weights and transformers' own attention: the oracle."""
    other = AutoModelForCausalLM.from_config(copy.deepcopy(model.config))
    other.load_state_dict(model.state_dict())
    other.set_attn_implementation("eager")
    return other


def random_sequences(
    count: int, seed: int = 0, longest: int = 40, vocabulary: int = VOCABULARY
) -> list[TokenSequence]:
    """Sequences of 6 tokens and more, with prompts of 3 and more."""
    rng = np.random.default_rng(seed)
    return [
        TokenSequence(
            rng.integers(0, vocabulary, length).astype(np.int32), int(rng.integers(3, length - 1)), True
        )
        for length in rng.integers(6, longest, count).tolist()
    ]
