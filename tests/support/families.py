"""Tiny random models of many transformers families.

They are compared with plain transformers. Each has two layers, wide enough for the special features of its
family. Embeddings are scaled up so that logits are large, and biases are not zero.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY = 96
END = 0
# Shorter than the sequences.
WINDOW = 8

_BASE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": END,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}
_HEAD = {"head_dim": 16}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_WINDOWS = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_MLA = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 12}
_GPT = {
    "vocab_size": VOCABULARY, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 128,
    "bos_token_id": None, "eos_token_id": END, "pad_token_id": None,
}  # fmt: skip
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 24, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_expand": 2}

# Model type of transformers, and its differences from _BASE (or the whole config, if it sets another size).
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("llama", {}),
    "Llama, attention and MLP biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "Qwen2": ("qwen2", {}),
    "Qwen2, windows in upper layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    ),
    "Qwen3": ("qwen3", _HEAD),
    "Qwen2-MoE": ("qwen2_moe", _EXPERTS | {"shared_expert_intermediate_size": 32}),
    "Qwen3-MoE": ("qwen3_moe", _EXPERTS | _HEAD),
    "Qwen3-Next": ("qwen3_next", _EXPERTS | _HEAD | {"shared_expert_intermediate_size": 32,
        "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
        "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"]}),
    "Mistral, window": ("mistral", {"sliding_window": WINDOW}),
    "Ministral": ("ministral", _HEAD | _WINDOWS),
    "Mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "Gemma": ("gemma", _HEAD | {"tie_word_embeddings": True}),
    "Gemma-2": ("gemma2", _HEAD | _WINDOWS | {"query_pre_attn_scalar": 16}),
    "Gemma-3 (text)": ("gemma3_text", _HEAD | _WINDOWS | {"query_pre_attn_scalar": 16}),
    "Granite": ("granite", {"logits_scaling": 4.0, "embedding_multiplier": 2.0, "residual_multiplier": 0.5,
                            "attention_multiplier": 0.2}),
    "GraniteMoE": ("granitemoe", {"logits_scaling": 4.0, "num_local_experts": 4}),
    "GraniteMoE-hybrid": ("granitemoehybrid", _MAMBA | {"num_local_experts": 4, "layer_types": ["mamba", "attention"]}),
    "Cohere": ("cohere", {"logit_scale": 0.25}),
    "Cohere2": ("cohere2", _WINDOWS | {"logit_scale": 0.25}),
    "Phi": ("phi", {}),
    "Phi-3": ("phi3", {}),
    "Phi-3, longrope": ("phi3", {"original_max_position_embeddings": 64, "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 6, "long_factor": [2.0] * 6,
        "original_max_position_embeddings": 64}}),
    "PhiMoE": ("phimoe", {"num_local_experts": 4, "lm_head_bias": True}),
    "OLMo": ("olmo", {}),
    "OLMo-2": ("olmo2", {}),
    "OLMo-3": ("olmo3", _WINDOWS),
    "OLMoE": ("olmoe", {"num_experts": 4, "num_experts_per_tok": 2}),
    "GPT-2": ("gpt2", _GPT),
    "GPT-J": ("gptj", _GPT | {"rotary_dim": 8}),
    "GPT-Neo": ("gpt_neo", {"vocab_size": VOCABULARY, "hidden_size": 48, "num_layers": 2, "num_heads": 4,
        "attention_types": [[["global", "local"], 1]], "window_size": WINDOW, "max_position_embeddings": 128,
        "bos_token_id": None, "eos_token_id": END}),
    "GPT-NeoX": ("gpt_neox", {}),
    "GPT-BigCode": ("gpt_bigcode", _GPT),
    "CodeGen": ("codegen", _GPT | {"rotary_dim": 8}),
    "StableLM": ("stablelm", {"use_qkv_bias": True, "hidden_size": 64}),
    "Starcoder2, window": ("starcoder2", {"sliding_window": WINDOW}),
    "Falcon": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "BLOOM": ("bloom", {"n_head": 4, "n_layer": 2}),
    "OPT": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 48, "pad_token_id": 1}),
    "MPT": ("mpt", {"vocab_size": VOCABULARY, "d_model": 48, "n_heads": 4, "n_layers": 2, "max_seq_len": 128,
                    "eos_token_id": END}),
    "XGLM": ("xglm", {"vocab_size": VOCABULARY, "d_model": 48, "ffn_dim": 64, "num_layers": 2,
                      "attention_heads": 4, "max_position_embeddings": 128, "eos_token_id": END}),
    "BioGPT": ("biogpt", {"pad_token_id": 1}),
    "Mamba": ("mamba", {"vocab_size": VOCABULARY, "hidden_size": 48, "num_hidden_layers": 2, "state_size": 8,
                        "eos_token_id": END, "bos_token_id": None, "pad_token_id": None}),
    "Mamba-2": ("mamba2", {"vocab_size": VOCABULARY, "hidden_size": 48, "num_hidden_layers": 2, "state_size": 8,
        "num_heads": 4, "head_dim": 24, "n_groups": 1, "eos_token_id": END, "bos_token_id": None,
        "pad_token_id": None}),
    "Jamba": ("jamba", {"num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8,
                        "use_mamba_kernels": False}),
    "Bamba": ("bamba", _MAMBA | {"attn_layer_indices": [1]}),
    "Falcon-H1": ("falcon_h1", _MAMBA | _HEAD | {"mamba_d_ssm": 96, "lm_head_multiplier": 0.5}),
    "RecurrentGemma": ("recurrent_gemma", {"block_types": ["recurrent", "attention"], "attention_window_size": WINDOW}),
    "LFM2": ("lfm2", {"layer_types": ["conv", "full_attention"], "block_multiple_of": 16}),
    "SmolLM3": ("smollm3", {"no_rope_layers": [1, 0]}),
    "GLM": ("glm", _HEAD),
    "GLM-4": ("glm4", _HEAD),
    "GLM-4-MoE": ("glm4_moe", _HEAD | {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
        "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_shared_experts": 1}),
    "Nemotron": ("nemotron", {}),
    "Arcee": ("arcee", {}),
    "Helium": ("helium", {"head_dim": 12}),
    "EXAONE-4": ("exaone4", _WINDOWS),
    "Seed-OSS": ("seed_oss", _HEAD),
    "ERNIE-4.5": ("ernie4_5", _HEAD),
    "Hunyuan": ("hunyuan_v1_dense", _HEAD),
    "Apertus": ("apertus", {}),
    "DiffLlama": ("diffllama", {}),
    "DeepSeek-V2": ("deepseek_v2", _MLA | {"n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
        "moe_intermediate_size": 32, "n_shared_experts": 1, "num_key_value_heads": 4, "topk_method": "greedy"}),
    "DeepSeek-V3": ("deepseek_v3", _MLA | {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2,
        "topk_group": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 32, "n_shared_experts": 1,
        "num_key_value_heads": 4}),
    "gpt-oss": ("gpt_oss", _HEAD | _WINDOWS | {"num_local_experts": 4, "num_experts_per_tok": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
    "MiniCPM3": ("minicpm3", _MLA | {"num_key_value_heads": 4, "dim_model_base": 12}),
    "nanochat": ("nanochat", {"head_dim": 12}),
    "VaultGemma": ("vaultgemma", _HEAD | _WINDOWS | {"query_pre_attn_scalar": 16}),
    "Dots1": ("dots1", _HEAD | {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
        "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_shared_experts": 1}),
    "Llama-4 (text), chunks": ("llama4_text", _HEAD | {"num_local_experts": 2, "intermediate_size_mlp": 64,
        "attention_chunk_size": WINDOW, "no_rope_layers": [1, 0],
        "layer_types": ["chunked_attention", "full_attention"]}),
    "xLSTM": ("xlstm", {"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 2,
                        "eos_token_id": END, "pad_token_id": None, "bos_token_id": None}),
}  # fmt: skip


def make(family: str, folder: Path, seed: int = 0) -> PreTrainedModel:
    """Save a random float32 model of `family` and its tokenizer in `folder`.

    The files have transformers' own layout.
    """
    model_type, changes = FAMILIES[family]
    whole = {"n_embd", "d_model", "state_size", "num_layers", "num_heads"} & changes.keys()
    config = AutoConfig.for_model(model_type, **(changes if whole else _BASE | changes))
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    widen(model)
    nn.Module.eval(model)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model


@torch.no_grad()
def widen(model: PreTrainedModel) -> None:
    """Give every parameter a random part, and scale the head.

    The logits then have a standard deviation near 8.
    """
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(0.0, 0.15)
        else:
            weight.add_(torch.randn_like(weight) * 0.1)
    head: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    # Scaling a tied head scales the embedding too.
    head.weight.mul_(2.0 if model.config.get_text_config().tie_word_embeddings else 8.0)
    if getattr(head, "bias", None) is not None:
        head.bias.mul_(20.0)


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words w1, w2, …"""
    words = {"<end>": END} | {f"w{index}": index for index in range(1, VOCABULARY)}
    words_to_ids = Tokenizer(models.WordLevel(words, unk_token="w1"))
    words_to_ids.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words_to_ids, eos_token="<end>", unk_token="w1"
    )
