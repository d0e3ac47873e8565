"""The subject of a run for reports: its model and its changed settings.

`--set model.source=…` changes the model, so a profile's name alone does not identify it. Reports name both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

# Follows the name of a profile that was run with changed settings.
CHANGED_MARK = "*"
UNKNOWN = "–"

# Field → {"profile": its value in the profile, "run": its value in the run}.
Changes = dict[str, dict[str, Any]]


def model_name(source: str) -> str:
    """Return the last part of a model's hub name or directory."""
    if source == "made":
        return "made here"
    return PurePosixPath(source).name or UNKNOWN


def model_in_full(source: str) -> str:
    """Return the full hub name or directory of a model."""
    return "made here" if source == "made" else source or UNKNOWN


def changes(changed: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one line for each changed setting: `grpo.steps: 200 → 20`."""
    return [
        f"{field}: {_shown(values['profile'])} → {_shown(values['run'])}" for field, values in changed.items()
    ]


def profile_name(profile: str, changed: Mapping[str, Any]) -> str:
    """Return a profile's name, marked if the run changed some of its settings."""
    return profile + CHANGED_MARK * bool(changed)


def _shown(value: Any) -> str:
    return (value or "(empty)") if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
