"""The experiment as data: TOML profiles checked by pydantic models.

A profile says everything that decides a result: model, data, the stages' settings, the arms and the hardware.
`load` reads one by name or path, applies `--set` overrides and returns a frozen `Profile`, or raises
`ProfileError` with one line that names the field and what to do.
"""

from profiles.changes import changed_settings
from profiles.load import ProfileError, load, names
from profiles.schema import Arm, Profile

__all__ = ["Arm", "Profile", "ProfileError", "changed_settings", "load", "names"]
