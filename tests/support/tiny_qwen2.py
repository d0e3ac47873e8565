"""A Qwen2 of a few thousand parameters with a word tokenizer, made on the spot for tests of generation."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

VOCABULARY = 96
END = 0


def make(folder: Path, seed: int, tied: bool = True) -> Qwen2ForCausalLM:
    """Saves a model with random weights (of unit-size logits, so that answers differ) and its tokenizer."""
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        eos_token_id=END,
        bos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.15)
    model.save_pretrained(folder)
    words = {"<end>": END} | {f"w{index}": index for index in range(1, VOCABULARY)}
    words_to_ids = Tokenizer(models.WordLevel(words, unk_token="w1"))
    words_to_ids.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words_to_ids, eos_token="<end>", unk_token="w1").save_pretrained(
        folder
    )
    return model
