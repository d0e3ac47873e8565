"""Tokenizers of every kind, built on the spot: what is added around a text, and how a text's start is treated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "Question: Ann has 4 apples, red, and buys one. How many?\nAnswer: 4 + 1 = 5\n#### 5",
    "Please reason step by step, and put your final answer within \\boxed{}.\n\n9 * 9 = 81\n\n\\boxed{81}",
] * 20
# BOS and EOS are neither the first special tokens nor next to each other.
SPECIAL = ["<unk>", "<pad>", "</s>", "<|user|>", "<|assistant|>", "<s>"]
BYTES = [f"<0x{value:02X}>" for value in range(256)]

CHAT = (
    "{% for m in messages %}<|user|>\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# Llama 2's form: BOS by the template, nothing special between the question and the answer.
CHAT_WITH_BOS = "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
# The answer follows a special token at once, as in DeepSeek's form.
CHAT_ENDS_SPECIAL = (
    "{{ bos_token }}{% for m in messages %}<|user|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# No generation prompt: the conversation ends in EOS.
CHAT_ENDS_IN_EOS = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"

AROUND = {
    "nothing": "$A",
    "bos": "<s> $A",
    "eos": "$A </s>",
    "bos and eos": "<s> $A </s>",
    "other": "<pad> $A <unk>",
}


def byte_level(prefix_space: bool = False) -> Tokenizer:
    """GPT-2's kind; `prefix_space` puts a space before the first word."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _pieces(tokenizer: Tokenizer) -> Tokenizer:
    """Train on words, as SentencePiece does, so that no piece reaches across a space or a line break."""
    kept = tokenizer.pre_tokenizer
    words = pre_tokenizers.Split("▁", "merged_with_next")
    lines = pre_tokenizers.Split("\n", "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*([kept] if kept else []), words, lines])
    trainer = trainers.BpeTrainer(vocab_size=460, special_tokens=[*SPECIAL, *BYTES])
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.pre_tokenizer = kept
    replaced = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.decoder = replaced
    return tokenizer


def llama() -> Tokenizer:
    """Llama 2's kind: a dummy prefix by the normalizer, also behind a special token; bytes for unknown letters."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return _pieces(tokenizer)


def metaspace() -> Tokenizer:
    """Newer SentencePiece conversions: the dummy prefix at the start of the whole text only."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return _pieces(tokenizer)


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte level": byte_level,
    "prefix space": lambda: byte_level(prefix_space=True),
    "llama": llama,
    "metaspace": metaspace,
}


def build(folder: Path, kind: str, around: str = "nothing", chat: str = "") -> Path:
    """Save a tokenizer of `kind` that adds tokens as `AROUND[around]` says."""
    tokenizer = KINDS[kind]()
    special = [(token, tokenizer.token_to_id(token)) for token in SPECIAL]
    if around != "nothing":
        tokenizer.post_processor = processors.TemplateProcessing(
            single=AROUND[around], special_tokens=special
        )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    if chat:
        fast.chat_template = chat
    fast.save_pretrained(folder)
    return folder
