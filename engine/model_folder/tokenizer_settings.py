"""A tokenizer's settings: special tokens by role, and the chat template.

Tokens of other modalities are included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.model_folder.reading import ModelFolder, read_text

TEMPLATE = "chat_template.jinja"
# The roles that every tokenizer of transformers has.
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def special_tokens(folder: ModelFolder) -> dict[str, str | None]:
    """Return role → special token, for example "eos_token" → "</s>".

    None means that the folder disables the role.
    """
    tables: list[Mapping[str, Any]] = [folder.tokenizer_config]
    if "added_tokens_decoder" not in folder.tokenizer_config:
        tables.append(folder.optional("special_tokens_map.json"))
    merged = {key: value for table in tables for key, value in table.items()}
    return {name: content_of(merged[name]) for name in SPECIAL if name in merged}


def foreign_tokens(folder: ModelFolder) -> set[str]:
    """Return tokens of roles that only this tokenizer has, such as images.

    No chat prompt of this project contains them.
    """
    settings = folder.tokenizer_config
    extra = settings.get("extra_special_tokens")
    named = {key: value for key, value in settings.items() if key.endswith("_token") and key not in SPECIAL}
    named |= extra if isinstance(extra, dict) else {}
    template = chat_template(folder) or ""
    return {token for value in named.values() if (token := content_of(value)) and token not in template}


def chat_template(folder: ModelFolder) -> str | None:
    """Return the folder's default chat template, or None.

    A template file takes precedence over tokenizer_config.json.
    """
    if folder.has(TEMPLATE):
        return read_text(folder.path / TEMPLATE)
    found = folder.tokenizer_config.get("chat_template")
    if isinstance(found, list):
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = named.get("default")
    return found if isinstance(found, str) and found else None


def content_of(value: object) -> str | None:
    """Return the text of a token, which files store as text or in a table.

    None if `value` holds no text.
    """
    found = value.get("content") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None
