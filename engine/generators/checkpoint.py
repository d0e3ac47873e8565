"""Weights that lie in a model folder in Hugging Face form, and the check that weights fit a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig

from engine.generators.interface import WeightsRefused
from engine.handover.slots import TornWeights
from engine.handover.weights import WeightReader
from engine.messages import WeightRef

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja")


def model_folder(source: str, revision: str) -> Path:
    """The local folder of a model: `source` itself, or the hub's snapshot of it (downloaded where it is not cached).

    WeightsRefused where there is neither.
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(MODEL_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsRefused(f"{source}: no such folder, and the hub does not give it: {reason}") from error


def is_slot(weights: WeightRef) -> bool:
    """True where the weights lie in shared memory, not in a model folder."""
    return not Path(weights.location).is_dir()


def named_tensors(weights: WeightRef, reader: WeightReader) -> dict[str, Tensor]:
    """The tensors of `weights` by name, views of memory or of files wherever they lie; WeightsRefused if not there."""
    if not is_slot(weights):
        return checkpoint_tensors(Path(weights.location))
    try:
        return reader.tensors(weights)
    except TornWeights as error:
        raise WeightsRefused(str(error)) from error


def verify(weights: WeightRef, reader: WeightReader) -> None:
    """WeightsRefused where a slot was given to another version while it was read."""
    if is_slot(weights):
        try:
            reader.verify(weights)
        except TornWeights as error:
            raise WeightsRefused(str(error)) from error


def checkpoint_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a model folder by name, one file or sharded; a head that shares the embedding is left out."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise WeightsRefused(f"{folder}: no {missing[0]}; a checkpoint needs its weights in safetensors form")
    tensors = {name: tensor for file in files for name, tensor in load_file(folder / file).items()}
    if json.loads((folder / "config.json").read_text()).get("tie_word_embeddings"):
        tensors.pop("lm_head.weight", None)
    return tensors


def check_fit(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], weights: WeightRef
) -> None:
    """WeightsRefused unless `tensors` have exactly the names and shapes of `expected`."""
    what = f"version {weights.version} of arm {weights.arm!r}"
    missing = sorted(expected.keys() - tensors.keys())
    foreign = sorted(tensors.keys() - expected.keys())
    if missing:
        raise WeightsRefused(f"{what} lacks {len(missing)} of the model's tensors, first {missing[0]}")
    if foreign:
        raise WeightsRefused(f"{what} holds {len(foreign)} tensors that the model lacks, first {foreign[0]}")
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != tuple(expected[name]):
            raise WeightsRefused(f"{what}: {name} is {tuple(tensor.shape)}, the model's is {expected[name]}")
        if not tensor.dtype.is_floating_point:
            raise WeightsRefused(f"{what}: {name} holds {tensor.dtype}, not floating-point numbers")


def end_ids(folder: Path) -> frozenset[int]:
    """Ids that end a completion: those of the generation configuration and the tokenizer's own."""
    ids = {AutoTokenizer.from_pretrained(folder).eos_token_id}
    if (folder / "generation_config.json").is_file():
        configured = GenerationConfig.from_pretrained(folder).eos_token_id
        ids.update(configured if isinstance(configured, list) else [configured])
    return frozenset(token for token in ids if token is not None)


def torch_dtype(name: str) -> torch.dtype:
    """The dtype called `name` in profiles ('bfloat16', 'float32')."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype
