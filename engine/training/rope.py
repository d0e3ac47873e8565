"""Lengths up to which rotary frequencies depend on the model alone.

Dynamic NTK scaling and LongRoPE choose frequencies by the longest position of the whole batch. Beyond the
original length, a token's log-prob then depends on the other sequences in the batch. Trainer and sampler then
differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.model_folder.lengths import DEPENDENT


def rope_limit(config: Mapping[str, Any]) -> int | None:
    """Return the longest sequence in tokens with constant rotary frequencies.

    Beyond it the frequencies depend on the batch. None means that they are always constant.
    Args:
        config: the model's config.json.
    """
    text = config.get("text_config") or config
    for settings in _settings(text):
        kind = str(settings.get("rope_type") or settings.get("type"))
        if kind in DEPENDENT:
            name = "original_max_position_embeddings"
            original = settings.get(name) or text.get(name) or text.get("max_position_embeddings")
            return None if original is None else int(original)
    return None


def _settings(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the rotary settings of every kind of layer."""
    for name in ("rope_parameters", "rope_scaling"):
        found = config.get(name)
        if isinstance(found, Mapping):
            yield found
            yield from (nested for nested in found.values() if isinstance(nested, Mapping))
