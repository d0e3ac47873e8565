"""Load a tokenizer as it was saved.

transformers 5 gives every model of type qwen2 the splitting and the NFC normalisation of Qwen2's own
tokenizer, whatever its tokenizer.json contains (MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS: many on the hub
name a wrong class). If a folder names the general class, its tokenizer.json is the only definition, so the
general class reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config

GENERAL_CLASS = PreTrainedTokenizerFast.__name__


def load_tokenizer(source: str | Path, revision: str = "main") -> Any:
    """Return the tokenizer of a model folder, or of a hub name at `revision`.

    Raises: OSError or ValueError if there is not one.
    """
    general = get_tokenizer_config(str(source), revision=revision).get("tokenizer_class") == GENERAL_CLASS
    kind = PreTrainedTokenizerFast if general else AutoTokenizer
    return kind.from_pretrained(str(source), revision=revision)
