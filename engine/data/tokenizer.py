"""A tokenizer as it was saved.

transformers 5 gives any model of type qwen2 the splitting and the NFC normalisation of Qwen2's own tokenizer, whatever
the tokenizer.json beside it says (MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS: many on the hub name a wrong class). A
folder that names the general class has no other truth than its tokenizer.json, and is read by that class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config

GENERAL_CLASS = PreTrainedTokenizerFast.__name__


def load_tokenizer(source: str | Path, revision: str = "main") -> Any:
    """The tokenizer of a model folder, or of a hub name at `revision`. OSError or ValueError where there is none."""
    general = get_tokenizer_config(str(source), revision=revision).get("tokenizer_class") == GENERAL_CLASS
    kind = PreTrainedTokenizerFast if general else AutoTokenizer
    return kind.from_pretrained(str(source), revision=revision)
