"""Check the tokenizer's files against the model's embedding.

They must exist, each id must have a row, and answers must be able to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.model_folder.reading import FolderFault, ModelFolder, check_start, read_object
from engine.model_folder.tokenizer_settings import content_of, foreign_tokens, special_tokens

TOKENIZER = "tokenizer.json"
# Files that transformers builds a tokenizer from: any one of these sets is enough.
VOCABULARIES = (
    (TOKENIZER,),
    ("vocab.json", "merges.txt"),
    ("tokenizer.model",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("tiktoken.model",),
    ("tekken.json",),
    ("vocab.txt",),
)
# General classes, which have no tokens or files of their own.
GENERAL_CLASSES = frozenset({"PreTrainedTokenizerFast", "TokenizersBackend"})
NO_END = (
    "tokenizer_config.json: has no eos_token, so no answer could end; set it to the token that ends an answer"
)
PROBE = "What is 17 plus 4?"


def check_vocabulary(folder: ModelFolder) -> None:
    """Check for a tokenizer, an end-of-sequence token, and a row for each id.

    Raises: FolderFault if one is missing.
    """
    if not _has_tokenizer(folder):
        return
    _check_end(folder)
    ids = token_ids(folder)
    if ids is not None:
        check_ids(folder, ids)


def check_loaded(folder: ModelFolder, tokenizer: Any) -> None:
    """Check that a tokenizer, as transformers loaded it, fits the model.

    Its class may add tokens that no file of the folder names.
    Raises: FolderFault if it does not fit.
    """
    if tokenizer.eos_token_id is None:
        raise FolderFault(NO_END)
    check_ids(folder, tokenizer.get_vocab())
    if not tokenizer(PROBE, add_special_tokens=False)["input_ids"]:
        raise FolderFault("tokenizer: a question gives no tokens; copy the base model's tokenizer files")


def check_ids(folder: ModelFolder, ids: Mapping[str, int]) -> None:
    """Check that every token that a text may hold has a row in the embedding.

    Raises: FolderFault if one has not.
    """
    rows = folder.count("vocab_size")
    if rows is None:
        return
    beyond = {token: number for token, number in ids.items() if number >= rows}
    for token in sorted(beyond.keys() - foreign_tokens(folder), key=beyond.__getitem__, reverse=True):
        raise FolderFault(
            f"tokenizer: token {token!r} has the id {beyond[token]}, but the embedding has {rows} rows "
            "(vocab_size); give the tokenizer that the model was trained with, or resize the embedding"
        )


def token_ids(folder: ModelFolder) -> dict[str, int] | None:
    """Return transformers' id of each token; None if no JSON file holds them."""
    if folder.has(TOKENIZER):
        ids = _tokenizer_json(read_object(folder.path / TOKENIZER))
    elif folder.has("vocab.json"):
        ids = _numbered(read_object(folder.path / "vocab.json"))
        ids |= _numbered(folder.optional("added_tokens.json"))
    else:
        return None
    for token in _declared(folder):
        ids.setdefault(token, max(ids.values(), default=-1) + 1)
    return ids


def _has_tokenizer(folder: ModelFolder) -> bool:
    """Return False if the tokenizer is not downloaded yet.

    Raises: FolderFault if the model has none.
    """
    general = folder.tokenizer_config.get("tokenizer_class") in GENERAL_CLASSES
    wanted = [(TOKENIZER,)] if general else VOCABULARIES
    found = next((names for names in wanted if all(folder.has(name) for name in names)), None)
    if found is not None:
        for name in found:
            check_start(folder.path / name)
        return True
    if folder.partial:
        return False
    raise FolderFault(
        f"no tokenizer: the folder has no {TOKENIZER}; copy the tokenizer files of the base model there"
    )


def _check_end(folder: ModelFolder) -> None:
    """Raise FolderFault if no token with a row ends an answer."""
    rows = folder.count("vocab_size")
    tables = {
        "config.json": folder.config,
        "generation_config.json": folder.optional("generation_config.json"),
    }
    ends = {(file, end) for file, table in tables.items() for end in _as_list(table.get("eos_token_id"))}
    for file, end in sorted(ends, key=str):
        if type(end) is not int or end < 0 or (rows is not None and end >= rows):
            raise FolderFault(
                f"{file}: eos_token_id {end!r} is outside the vocabulary of {rows} tokens (vocab_size); correct it"
            )
    named = special_tokens(folder)
    # Classes of one model's tokenizer have their own end token, which no file needs to name.
    general = folder.tokenizer_config.get("tokenizer_class") in GENERAL_CLASSES
    if named.get("eos_token") is None and ("eos_token" in named or general or not ends):
        raise FolderFault(NO_END)


def _declared(folder: ModelFolder) -> list[str]:
    """Return the configured tokens; transformers adds the missing ones."""
    decoder = folder.tokenizer_config.get("added_tokens_decoder")
    extra = folder.tokenizer_config.get("additional_special_tokens")
    found = [*(decoder.values() if isinstance(decoder, dict) else ()), *_as_list(extra)]
    texts = [*(content_of(entry) for entry in found), *special_tokens(folder).values()]
    return [text for text in texts if text]


def _tokenizer_json(table: Mapping[str, Any]) -> dict[str, int]:
    model = table.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, (list, dict)) or not vocabulary:
        raise FolderFault(f"{TOKENIZER}: has no tokens in model.vocab; copy the base model's tokenizer files")
    if isinstance(vocabulary, list):
        # Unigram: [token, score] in the order of their ids.
        ids = {str(entry[0]): number for number, entry in enumerate(vocabulary) if isinstance(entry, list)}
    else:
        ids = _numbered(vocabulary)
    added = [entry for entry in _as_list(table.get("added_tokens")) if isinstance(entry, dict)]
    return ids | _numbered({str(entry.get("content")): entry.get("id") for entry in added})


def _numbered(vocabulary: Mapping[str, Any]) -> dict[str, int]:
    return {token: number for token, number in vocabulary.items() if type(number) is int}


def _as_list(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
