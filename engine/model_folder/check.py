"""All checks of a model folder, ordered so that no fault hides another."""

from __future__ import annotations

from pathlib import Path

from engine.model_folder.architecture import check_architecture
from engine.model_folder.chat_template import check_chat_template
from engine.model_folder.hub import cached
from engine.model_folder.lengths import check_lengths
from engine.model_folder.reading import FolderFault, ModelFolder, read_object
from engine.model_folder.vocabulary import check_vocabulary
from engine.model_folder.weights import check_presence, check_weights
from profiles.schema import Profile

ADAPTER = "adapter_config.json"


def located(source: str, revision: str = "main") -> ModelFolder | None:
    """Return the folder of `source`, a path or a cached hub name.

    None means that it must be downloaded.
    Raises: FolderFault if a path is not a folder; Unavailable if it is not cached and the hub may not be
        used.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return ModelFolder(path)
    if path.is_file():
        raise FolderFault("a file; give the folder with config.json and weights in it")
    if source.startswith(("/", "./", "../", "~")):
        raise FolderFault("no such folder; give a checkpoint folder or a hub name")
    return cached(source, revision)


def check_folder(folder: ModelFolder) -> None:
    """Check that the folder holds a loadable causal model and its tokenizer.

    Raises: FolderFault if it does not.
    """
    _check_listing(folder)
    check_architecture(folder)
    check_weights(folder)
    check_vocabulary(folder)


def check_use(folder: ModelFolder, profile: Profile) -> None:
    """Check that the model of a checked folder can do what `profile` needs.

    Raises: FolderFault if it cannot.
    """
    check_lengths(folder, profile)
    check_chat_template(folder, profile)


def _check_listing(folder: ModelFolder) -> None:
    """Raise FolderFault unless the files of a whole checkpoint exist."""
    try:
        names = sorted(path.name for path in folder.path.iterdir())
    except OSError as error:
        raise FolderFault(f"cannot be read ({error.strerror}); check its owner and permissions") from None
    if folder.has(ADAPTER):
        raise FolderFault(_merge(folder))
    if folder.partial:
        return
    if not folder.has("config.json"):
        held = f"holds only {', '.join(names[:3])}" if names else "is empty"
        raise FolderFault(f"has no config.json: it {held}; give a folder in Hugging Face form")
    check_presence(folder)


def _merge(folder: ModelFolder) -> str:
    base = read_object(folder.path / ADAPTER).get("base_model_name_or_path") or "the base model"
    command = (
        "from peft import AutoPeftModelForCausalLM as M; "
        f"M.from_pretrained('{folder.path}').merge_and_unload().save_pretrained('MERGED')"
    )
    return (
        f"{ADAPTER}: an adapter (LoRA) of {base}, not a whole model; merge them and give the merged folder: "
        f'python -c "{command}"'
    )
