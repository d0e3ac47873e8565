"""A model's files on the hub: the cached ones, and small ones first."""

from __future__ import annotations

from pathlib import Path

from engine.model_folder.reading import FolderFault, ModelFolder, Unavailable
from engine.model_folder.weights import refuse_unknown_names

# All files that the checks read, except weights.
SMALL_FILES = ("*.json", "*.jinja", "*.txt", "*.model")
# A repository has one of these: of a model, or of an adapter.
DESCRIPTIONS = ("config.json", "adapter_config.json")


def cached(name: str, revision: str) -> ModelFolder | None:
    """Return the cached snapshot of a hub name; None if it must be downloaded.

    Raises: FolderFault if it is not a hub name; Unavailable if it is not cached and may not be downloaded.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for description in DESCRIPTIONS:
        try:
            found = try_to_load_from_cache(name, description, revision=revision)
        except HFValidationError:
            raise FolderFault("no such folder, and not a hub name; give a checkpoint folder") from None
        if isinstance(found, str):
            # Without the hub nothing can be added to the cache.
            return ModelFolder(Path(found).parent, partial=not constants.HF_HUB_OFFLINE)
    if constants.HF_HUB_OFFLINE:
        raise Unavailable(
            "not in the hub's cache, and HF_HUB_OFFLINE forbids access to the hub; unset it, or give a folder"
        )
    return None


def small_files(name: str, revision: str) -> ModelFolder:
    """Download a hub model without its weights; return the folder.

    The files are its configuration and tokenizer.
    Raises: Unavailable if the hub does not provide them; FolderFault if it has no weights that can be loaded.
    """
    from huggingface_hub import HfApi, snapshot_download

    from engine.data.hub import UNREACHABLE

    try:
        names = HfApi().list_repo_files(name, revision=revision)
        if not set(names) & set(DESCRIPTIONS[1:]):
            refuse_unknown_names(sorted(names), name)
        return ModelFolder(
            Path(snapshot_download(name, revision=revision, allow_patterns=list(SMALL_FILES))), partial=True
        )
    except UNREACHABLE as error:
        reason = str(error).strip().partition("\n")[0]
        raise Unavailable(f"no such folder, and the hub does not provide it: {reason}") from None
