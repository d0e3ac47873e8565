"""Check that transformers can build a folder's model as a causal decoder.

The known architectures are read from transformers' source files, which takes milliseconds. Importing them
would load torch.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine.model_folder.reading import FolderFault, ModelFolder

AUTO = "models/auto"
CONFIGS = ("CONFIG_MAPPING_NAMES", ("auto_mappings.py", "configuration_auto.py"))
CAUSAL = ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", ("modeling_auto.py",))
# Keys under which transformers stores the parts of a model with several parts.
PARTS = ("text_config", "vision_config", "audio_config", "encoder", "decoder", "generator", "llm_config")
QUANTISED = ("quantization_config", "compression_config")


def check_architecture(folder: ModelFolder) -> None:
    """Check that config.json describes an unquantised causal model.

    Raises: FolderFault if it does not.
    """
    config = folder.config
    _refuse_quantised(config)
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise FolderFault("config.json: has no model_type, so its architecture is unknown; add it")
    if config.get("is_encoder_decoder"):
        raise FolderFault(_not_causal(f"{kind} is an encoder-decoder model (is_encoder_decoder)"))
    parts = [part for part in PARTS if isinstance(config.get(part), dict)]
    if parts:
        raise FolderFault(
            _not_causal(f"{kind} is a model of several parts ({parts[0]}), for more than text alone")
        )
    _check_class(config, kind)


def _refuse_quantised(config: dict[str, Any]) -> None:
    for field in QUANTISED:
        settings = config.get(field)
        if settings:
            method = settings.get("quant_method", "") if isinstance(settings, dict) else ""
            raise FolderFault(
                f"config.json: {field}: the weights are quantised{f' ({method})' if method else ''}, and cannot be "
                "trained; give the checkpoint that is not"
            )


def _check_class(config: dict[str, Any], kind: str) -> None:
    known, causal = mapping(*CONFIGS), mapping(*CAUSAL)
    brings = config.get("auto_map")
    if known and kind not in known:
        code = "; the code that the folder brings (auto_map) is never run" if brings else ""
        raise FolderFault(
            f"config.json: model_type {kind!r} is unknown to transformers {version('transformers')}{code}; give a "
            "model of a known architecture"
        )
    if causal and kind not in causal:
        raise FolderFault(_not_causal(f"transformers has no causal language model of type {kind}"))
    named = config.get("architectures") or []
    if not isinstance(named, list):
        raise FolderFault(f"config.json: architectures is {named!r}, not a list of class names; correct it")
    if named and causal and causal[kind] not in named:
        code = ", which is code of the folder (auto_map) that is never run" if brings else ""
        raise FolderFault(_not_causal(f"architectures names {named[0]}, not {causal[kind]}{code}"))


def _not_causal(reason: str) -> str:
    return f"config.json: {reason}; give a causal language model (a decoder of text with a head)"


@cache
def mapping(name: str, files: tuple[str, ...]) -> dict[str, str]:
    """Read a dictionary constant from transformers' source code.

    transformers is not imported.
    Args:
        name: name of the constant.
        files: source files to search.
    Returns: its entries, empty if it does not exist.
    """
    found: dict[str, str] = {}
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return found
    for file in files:
        path = Path(spec.origin).parent / AUTO / file
        if path.is_file():
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                found |= _entries(node, name)
    return found


def _entries(node: ast.stmt, name: str) -> dict[str, str]:
    """Return the literal entries that `node` gives the mapping `name`.

    `node` is an assignment or NAME.update({…}).
    """
    value: ast.expr | None = None
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            value = node.value
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        function = node.value.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            value = node.value if (function.value.id, function.attr) == (name, "update") else None
    return dict(_pairs(value)) if value is not None else {}


def _pairs(value: ast.expr) -> list[tuple[str, str]]:
    """Return the pairs of texts in `value` at any depth.

    They are dictionary entries or tuples.
    """
    found: list[tuple[ast.expr | None, ast.expr]] = []
    for node in ast.walk(value):
        if isinstance(node, ast.Dict):
            found += zip(node.keys, node.values, strict=True)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
            found.append((node.elts[0], node.elts[1]))
    return [
        (key.value, item.value)
        for key, item in found
        if isinstance(key, ast.Constant) and isinstance(item, ast.Constant)
        if isinstance(key.value, str) and isinstance(item.value, str)
    ]
