"""Check a model folder's weights by their safetensors headers.

They must be complete, whole, and ordinary floating-point numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from engine.model_folder.reading import FolderFault, ModelFolder, TensorHeader, read_header, read_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
# Buffers such as GPT-2's causal mask may hold integers; a parameter may not.
INTEGERS = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"})
PICKLED = "pytorch_model"
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack")


def check_presence(folder: ModelFolder) -> None:
    """Raise FolderFault unless the folder holds weights to load.

    They must have a file name that is loaded.
    """
    refuse_unknown_names(sorted(found.name for found in folder.path.iterdir()), str(folder.path))


def refuse_unknown_names(names: Sequence[str], place: str) -> None:
    """Raise FolderFault unless weights are among the files `names`.

    `place` is the folder or hub repository.
    """
    if SINGLE in names or INDEX in names:
        return
    if any(name.startswith(PICKLED) for name in names):
        raise FolderFault(
            f"{PICKLED}.bin: weights in pickled form, which may run code when they are loaded; convert them once: "
            'python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{place}').save_pretrained('{place}')\""
        )
    others = [name for name in names if name.endswith(WEIGHT_SUFFIXES)]
    held = f" (it holds {others[0]}, which transformers does not look for)" if others else ""
    raise FolderFault(
        f"a checkpoint folder with no weights: neither {SINGLE} nor {INDEX}{held}; copy them there"
    )


def check_weights(folder: ModelFolder) -> None:
    """Raise FolderFault unless the weights load whole and unchanged."""
    files = _files(folder)
    tensors: dict[str, TensorHeader] = {}
    for file, names in files.items():
        if folder.partial and not folder.has(file):
            return
        found = read_header(folder.path / file)
        absent = sorted(names - found.keys())
        if absent:
            raise FolderFault(
                f"{INDEX}: names {absent[0]} in {file}, which does not hold it; copy index and shards again"
            )
        tensors |= found
    check_dtypes(tensors)
    check_head(folder, tensors)


def check_dtypes(tensors: dict[str, TensorHeader]) -> None:
    """Check that parameters are 16-, 32- or 64-bit floats.

    Args:
        tensors: name → dtype and shape from the file headers.
    Raises: FolderFault if one is not.
    """
    for name, tensor in tensors.items():
        is_parameter = "weight" in name.rpartition(".")[2]
        if tensor.dtype in FLOATS or (tensor.dtype in INTEGERS and not is_parameter):
            continue
        raise FolderFault(
            f"weights: {name} holds {tensor.dtype}, not plain floating-point numbers; "
            "give the checkpoint that is not quantised"
        )


def check_head(folder: ModelFolder, tensors: dict[str, TensorHeader]) -> None:
    """Check that an untied output head has a matrix of its own.

    Names of heads differ between architectures, so matrices are counted: head and embedding each have one row
    per token.
    Raises: FolderFault if it is missing.
    """
    rows = folder.count("vocab_size")
    if folder.config.get("tie_word_embeddings") is not False or rows is None:
        return
    found = [name for name, tensor in tensors.items() if len(tensor.shape) == 2 and tensor.shape[0] == rows]
    if len(found) == 1:
        raise FolderFault(
            f"weights: no lm_head.weight: {found[0]} is the only matrix with vocab_size = {rows} rows, and "
            "config.json has tie_word_embeddings: false; add the head's weight, or set true if it is the embedding"
        )


def _files(folder: ModelFolder) -> dict[str, set[str]]:
    """Return the weight files with the tensors that the index expects."""
    if folder.has(INDEX):
        shards = _shards(folder)
        if folder.has(SINGLE) and SINGLE not in shards:
            raise FolderFault(
                f"{SINGLE}: stands next to {INDEX}, which names other files; remove the one that is out of date"
            )
        return shards
    return {SINGLE: set()} if folder.has(SINGLE) else {}


def _shards(folder: ModelFolder) -> dict[str, set[str]]:
    weight_map = read_object(folder.path / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FolderFault(f"{INDEX}: has no weight_map; copy the file again from its source")
    shards: dict[str, set[str]] = {}
    for name, file in weight_map.items():
        if not isinstance(file, str) or PurePosixPath(file).name != file:
            raise FolderFault(
                f"{INDEX}: {name} lies in {file!r}, which is not a file of this folder; correct it"
            )
        shards.setdefault(file, set()).add(name)
    missing = sorted(file for file in shards if not folder.has(file))
    if missing and not folder.partial:
        raise FolderFault(
            f"{INDEX}: names {missing[0]}, which is missing ({len(missing)} of {len(shards)} shards are); "
            "copy it there"
        )
    return shards
