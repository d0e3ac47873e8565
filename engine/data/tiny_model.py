"""The demo's tokenizer and model.

The tokenizer is byte-level BPE over word problems; the model is a Qwen2 with random weights. The tokenizer is
lossless: every text is restored from its ids byte for byte, though text unlike word problems takes many. It
is the same for every seed. A word of the problems, with its leading space, is one token, and so is a number.
"""

from __future__ import annotations

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from engine.data.prompts import answer_text, prompt_text
from engine.data.word_problems import problems
from engine.protocol.messages import derived_seed
from profiles.training import Pretrain

END = "<|endoftext|>"
# Problems to train the tokenizer on, so that each of their words occurs many times.
TEXTS = 4000
# Positions.
LONGEST = 2048
# Words and numbers with the space before them, marks with the line breaks after them, and remaining space.
PIECES = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+\n*|\s+"


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer of at most `vocabulary` tokens.

    It is trained on generated word problems. At least 257 tokens are needed: every byte and the
    end-of-sequence token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END,
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
    )


def _texts() -> list[str]:
    return [
        prompt_text(None, row.question, "plain") + answer_text("plain", row.solution)
        for row in problems(0, TEXTS, "train")
    ]


def make_model(shape: Pretrain, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2ForCausalLM:
    """Return a Qwen2 with random float32 weights that follow from `seed`.

    The head is tied to the embedding.
    """
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        intermediate_size=2 * shape.width,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed("model", seed))
        return Qwen2ForCausalLM(config)  # type: ignore[no-untyped-call]
