"""Load a causal LM, and account for every parameter.

transformers fills a parameter that the checkpoint lacks with random numbers and logs a line. Here that is an
error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from engine.artifacts import digests
from engine.training.unsupported import UnsupportedModel


def load_model(source: str | Path, dtype: torch.dtype | str, revision: str = "main") -> PreTrainedModel:
    """Load the model in folder or hub name `source`.

    Names that transformers converts while loading (fused experts, legacy names) are converted.
    Args:
        dtype: of the parameters; "auto" keeps the dtype of the files.
    Raises: DamagedFile if the folder has digests and a file of the model differs from its own.
    Raises: UnsupportedModel, naming the parameter, if the checkpoint lacks one that is not tied, holds one of
        another shape, holds one for a layer that config.json does not have, holds two different weights for a
        tied head, or holds NaN or infinity.
    """
    if Path(source).is_dir():
        digests.check(Path(source), digests.of_model)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        str(source),
        config=_config(source, revision),
        revision=revision,
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    model: PreTrainedModel = loaded[0]
    info: dict[str, Any] = loaded[1]
    _check_names(model, info, source)
    _check_tie(model, source)
    _check_finite(model, source)
    return model


def _check_names(model: PreTrainedModel, info: dict[str, Any], source: str | Path) -> None:
    """Raise UnsupportedModel if weights and configuration do not match.

    Their names and shapes are compared.
    """
    missing = sorted(info["missing_keys"])
    if missing:
        raise UnsupportedModel(
            f"{source}: the weights lack {_named(missing)}, and a random value would be trained in its place; "
            "give a checkpoint that holds it"
        )
    if info["mismatched_keys"]:
        name, stored, expected = min(info["mismatched_keys"], key=str)
        raise UnsupportedModel(
            f"{source}: {name} is {tuple(stored)} in the weights, and {tuple(expected)} by config.json; "
            "give the config.json that belongs to the weights"
        )
    unused = sorted(name for name in info["unexpected_keys"] if _belongs(model, name))
    if unused:
        raise UnsupportedModel(
            f"{source}: the weights hold {_named(unused)}, which config.json does not describe; "
            "give the config.json that belongs to the weights"
        )


def _config(source: str | Path, revision: str) -> PretrainedConfig:
    """Read config.json without the settings of a program's calls.

    The attention implementation may not be installed, and each user of the model sets its own. Callers expect
    outputs in transformers' usual form.
    """
    config: PretrainedConfig = AutoConfig.from_pretrained(str(source), revision=revision)
    config._attn_implementation = "eager"
    config.output_attentions = config.output_hidden_states = False
    config.return_dict = True
    return config


def empty_model(config: Any) -> PreTrainedModel:
    """Build a model on the meta device, only for its names and shapes."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return model


def as_in_files(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename `tensors` from the names in memory to the names in model files.

    Other programs read these files. For example, transformers fuses the experts of a mixture into one tensor,
    while its files hold each separately.
    """
    return dict(revert_weight_conversion(model, dict(tensors)))


def _belongs(model: Any, name: str) -> bool:
    """Return True if `name` lies inside a part of the body or the head.

    A separate part, such as a value head, changes nothing.
    """
    modules = dict(model.named_modules())
    parents = name.split(".")[:-1]
    known = next((n for n in range(len(parents), 0, -1) if ".".join(parents[:n]) in modules), 0)
    return known > 0 and modules[".".join(parents[:known])] is not model.base_model


def _check_tie(model: PreTrainedModel, source: str | Path) -> None:
    """Reject weights that config.json ties but the files hold separately.

    transformers unties such weights. Other programs follow config.json and tie them.
    """
    tied: dict[str, str] = model.get_expanded_tied_weights_keys(all_submodels=True)
    for target, other in tied.items():
        if model.get_parameter_or_buffer(target) is not model.get_parameter_or_buffer(other):
            raise UnsupportedModel(
                f"{source}: config.json ties {target} to {other}, but the weights hold two different ones; "
                "set tie_word_embeddings to false"
            )


def _check_finite(model: PreTrainedModel, source: str | Path) -> None:
    """Reject numbers that are not finite.

    Such a number affects only some tokens, so a comparison of a few tokens may miss it.
    """
    for name, parameter in model.named_parameters():
        if not parameter.numel():
            continue
        # The extremes of a tensor are NaN if any number is. isfinite takes ten times as long.
        extremes = torch.stack(torch.aminmax(parameter.detach()))
        if not bool(extremes.isfinite().all()):
            kind = "NaN" if bool(extremes.isnan().any()) else "infinity"
            raise UnsupportedModel(
                f"{source}: {name} holds {kind} in the weights; give a checkpoint without it"
            )


def _named(names: Iterable[str]) -> str:
    first, *others = names
    return first + (f" and {len(others)} other parameters" if others else "")
