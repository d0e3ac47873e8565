"""The settings of a run that overrides changed from its profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from profiles.errors import ProfileError
from profiles.load import load


def changed_settings(name_or_path: str, overrides: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the fields that `overrides` change from the profile's values.

    Returns: field → {"profile": the profile's value, "run": the new value}, as JSON values. The profile's
        value becomes `None` if the profile is valid only with the overrides.
    Raises: ProfileError if the profile or an override cannot be used.
    """
    run = load(name_or_path, overrides).model_dump(mode="json")
    try:
        profile = load(name_or_path).model_dump(mode="json")
    except ProfileError:
        profile = {}
    fields = dict.fromkeys(override.partition("=")[0].strip() for override in overrides)
    found = {field: {"profile": _value(profile, field), "run": _value(run, field)} for field in fields}
    return {field: values for field, values in found.items() if values["profile"] != values["run"]}


def _value(table: Any, field: str) -> Any:
    for part in field.split("."):
        table = table.get(part) if isinstance(table, dict) else None
    return table
