"""The experiment as data: TOML profiles checked by pydantic models.

A profile contains every setting that affects a result: model, data, stage settings, arms and hardware.
`load` reads a profile by name or path, applies `--set` overrides and returns a frozen `Profile`.
It raises `ProfileError` with one line that names the field and what to do.
"""

from profiles.changes import changed_settings
from profiles.load import ProfileError, load, names
from profiles.schema import Arm, Profile

__all__ = ["Arm", "Profile", "ProfileError", "changed_settings", "load", "names"]
