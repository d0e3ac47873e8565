"""Load weights from a Hugging Face folder and check that they fit a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel

from engine.artifacts.digests import DamagedFile
from engine.context import fault_of
from engine.generators.interface import WeightsRefused
from engine.protocol.messages import WeightRef
from engine.training.loading import load_model
from engine.training.rope import rope_limit
from engine.training.unsupported import UnsupportedModel
from engine.weight_sync.slots import TornWeights
from engine.weight_sync.weights import WeightReader

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja")


def model_folder(source: str, revision: str) -> Path:
    """Return the local folder of a model.

    It is `source` itself, or the hub's snapshot of it, downloaded if it is not cached.
    Raises: WeightsRefused if neither exists.
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(MODEL_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsRefused(
            f"{source}: no such folder, and the hub does not provide it: {reason}"
        ) from error


def is_slot(weights: WeightRef) -> bool:
    """Return True if the weights lie in shared memory, not in a model folder."""
    return not Path(weights.location).is_dir()


def named_tensors(weights: WeightRef, reader: WeightReader) -> dict[str, Tensor]:
    """Return the tensors of `weights` by name, as views of memory or of files.

    Raises: WeightsRefused if they do not exist.
    """
    if not is_slot(weights):
        return checkpoint_tensors(Path(weights.location))
    try:
        return reader.tensors(weights)
    except TornWeights as error:
        raise WeightsRefused(str(error)) from error


def verify(weights: WeightRef, reader: WeightReader) -> None:
    """Check that a slot did not change to another version during the read.

    Raises: WeightsRefused if it did.
    """
    if is_slot(weights):
        try:
            reader.verify(weights)
        except TornWeights as error:
            raise WeightsRefused(str(error)) from error


def checkpoint_tensors(folder: Path) -> dict[str, Tensor]:
    """Load a folder's parameters without a tied head.

    Their names are those in memory.
    Raises: WeightsRefused, see `folder_model`.
    """
    return parameters(folder_model(folder))


def folder_model(folder: Path, dtype: torch.dtype | str = "auto") -> PreTrainedModel:
    """Load the model in `folder`, by default in the dtype of its files.

    Raises: WeightsRefused if files are missing or damaged, or do not provide exactly the model's parameters.
    """
    try:
        return load_model(folder, dtype)
    except (UnsupportedModel, DamagedFile) as error:
        raise WeightsRefused(str(error)) from error
    except OSError as error:
        raise WeightsRefused(f"{folder}: its weights cannot be loaded: {fault_of(error)}") from error


def parameters(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the parameters of `model` by name."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def check_fit(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], weights: WeightRef
) -> None:
    """Check that `tensors` have exactly the names and shapes of `expected`.

    Raises: WeightsRefused if they do not.
    """
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


# Positions of a model without a position table.
UNLIMITED = 2**31


def longest_sequence(config: Any, max_model_len: int) -> int:
    """Return the maximum tokens of a prompt and its completion together.

    Raises: WeightsRefused if the model's rotary frequencies would depend on the batch at that length.
    """
    longest, limit = min(max_model_len, _own_positions(config)), rope_limit(config.to_dict())
    if limit is not None and longest > limit:
        raise WeightsRefused(
            f"model type {config.model_type!r}: rotary frequencies change beyond {limit} tokens; "
            f"set hardware.max_model_len to {limit} or less"
        )
    return longest


def positions_of(config: Any) -> int:
    """Return how many tokens the model can read at once, for any batch."""
    limit = rope_limit(config.to_dict())
    return min(_own_positions(config), UNLIMITED if limit is None else limit)


def _own_positions(config: Any) -> int:
    return getattr(config.get_text_config(), "max_position_embeddings", None) or UNLIMITED


def end_ids(folder: Path) -> frozenset[int]:
    """Return the ids that end a completion, configured or the tokenizer's."""
    ids = {AutoTokenizer.from_pretrained(folder).eos_token_id}
    if (folder / "generation_config.json").is_file():
        configured = GenerationConfig.from_pretrained(folder).eos_token_id
        ids.update(configured if isinstance(configured, list) else [configured])
    return frozenset(token for token in ids if token is not None)


def torch_dtype(name: str) -> torch.dtype:
    """Return the dtype called `name` in profiles ('bfloat16', 'float32')."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype
