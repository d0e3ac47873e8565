"""Compare a model's positions with a profile's longest sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.model_folder.reading import FolderFault, ModelFolder
from profiles.schema import Profile

# Names of the same quantity: transformers maps them to max_position_embeddings.
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")
ORIGINAL = "original_max_position_embeddings"
# Frequencies of these kinds follow the longest position of a batch beyond the original length.
DEPENDENT = frozenset({"dynamic", "longrope", "su"})
# For these kinds max_position_embeddings is the length before the stretch.
STRETCHED = frozenset({"linear", "dynamic"})


def check_lengths(folder: ModelFolder, profile: Profile) -> None:
    """Check that the profile's sequences fit the model's positions.

    Raises: FolderFault if they are longer, or so long that frequencies depend on the batch.
    """
    field, most = next(
        ((name, found) for name in POSITIONS if (found := folder.count(name)) is not None), ("", None)
    )
    ropes = list(rope_tables(folder.config))
    for rope in ropes:
        kind = str(rope.get("rope_type") or rope.get("type") or "default")
        original = rope.get(ORIGINAL) or folder.config.get(ORIGINAL) or most
        if kind in DEPENDENT and isinstance(original, int):
            changes = (
                f"rope type {kind} depends on the longest sequence of a batch beyond {original} positions"
            )
            _check_settings(profile, original, f"config.json: {changes}")
    if most is None:
        return
    factors = [
        float(rope.get("factor") or 1.0)
        for rope in ropes
        if str(rope.get("rope_type") or rope.get("type")) in STRETCHED
    ]
    _check_settings(profile, int(most * max(factors, default=1.0)), f"config.json: {field} is {most}")


def rope_tables(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the RoPE settings in config.json.

    There is one table, or one for each type of layer.
    """
    for field in ("rope_parameters", "rope_scaling"):
        settings = config.get(field)
        if isinstance(settings, dict):
            nested = [inner for inner in settings.values() if isinstance(inner, dict)]
            yield from nested or [settings]


def _check_settings(profile: Profile, most: int, reason: str) -> None:
    """Raise FolderFault if sequences may exceed `most`.

    The message gives settings that fit.
    """
    longest = profile.hardware.max_model_len
    if longest <= most:
        return
    answers = {
        "grpo.max_new_tokens": profile.grpo.max_new_tokens,
        "eval.max_new_tokens": profile.eval.max_new_tokens,
    }
    fitting = {"hardware.max_model_len": most}
    fitting |= {name: most // 2 for name, value in answers.items() if value >= most}
    remedy = " ".join(f"--set {name}={value}" for name, value in fitting.items())
    raise FolderFault(f"{reason}, less than hardware.max_model_len = {longest}; {remedy}")
