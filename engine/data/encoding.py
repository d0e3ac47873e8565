"""Token ids of prompts and answers, for any tokenizer.

    prompt = leading special tokens + text          (plain text)
    prompt = text                                   (a chat template writes its special tokens itself)
    answer = text as it continues a prompt's end    (the caller appends the end-of-sequence id)

What a post-processor adds after a text (EOS, SEP) is never part of a prompt, because the answer could not
follow.
This module imports no model library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.data.special_tokens import leading

# Context of an answer if the real context merges with it. A line break merges with no letter or digit.
_BREAK = "\n"


def encode_texts(tokenizer: Any, texts: Sequence[str], special: bool) -> list[list[int]]:
    """Return the ids of each text.

    Args:
        special: put the tokenizer's leading special tokens before each text. None follow it.
    Raises: ValueError if the special tokens cannot be separated from the text.
    """
    if not texts:
        return []
    found = _ids(tokenizer, texts, special=False)
    if not special:
        return found
    before = leading(_ids(tokenizer, texts[:1], special=True)[0], found[0])
    return [[*before, *ids] for ids in found]


def encode_prompts(tokenizer: Any, texts: Sequence[str], template: str) -> list[list[int]]:
    """Return the ids of each prompt.

    For the chat form they equal those of `apply_chat_template(..., tokenize=True)`.
    Raises: ValueError if a prompt ends in the end-of-sequence id, which a chat template without a generation
        prompt may write.
    """
    found = encode_texts(tokenizer, texts, special=template == "plain")
    end = tokenizer.eos_token_id
    if end is not None and any(ids and ids[-1] == end for ids in found):
        raise ValueError(
            "the chat template ends a prompt with the end-of-sequence token, so no answer can follow; "
            "set preprocess.template=plain (and eval.templates), or add a generation prompt to the template"
        )
    return found


def encode_answers(tokenizer: Any, texts: Sequence[str], after: str) -> list[list[int]]:
    """Return the ids of each answer after `after`, the end of its prompt.

    No end-of-sequence id is added. Prompt and answer are tokenised separately and joined. The prompt's ids
    are then the same in training as in generation, when no answer exists yet. The border between them is
    exact; tokenised together, a token could cross it.
    But an answer is not the start of a text. A tokenizer that adds a space there (SentencePiece's dummy
    prefix, `add_prefix_space`) would put it into the middle. So `after` is encoded with the answer, and its
    ids are removed.
    An end-of-sequence id that the text itself spells is dropped, because it would end the answer early.
    """
    found: list[list[int] | None] = [None] * len(texts)
    for context in (after, _BREAK):
        missing = [place for place, ids in enumerate(found) if ids is None]
        if not missing:
            break
        start = _ids(tokenizer, [context], special=False)[0]
        whole = _ids(tokenizer, [context + texts[place] for place in missing], special=False)
        for place, ids in zip(missing, whole, strict=True):
            if ids[: len(start)] == start:
                found[place] = ids[len(start) :]
    end = tokenizer.eos_token_id
    alone = (
        ids if ids is not None else _ids(tokenizer, [text], special=False)[0]
        for ids, text in zip(found, texts, strict=True)
    )
    return [[token for token in ids if token != end] for ids in alone]


def _ids(tokenizer: Any, texts: Sequence[str], special: bool) -> list[list[int]]:
    if not texts:
        return []
    found: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=special, return_attention_mask=False, verbose=False
    )["input_ids"]
    return found
