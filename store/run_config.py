"""The configuration of a run: read, validate and write run.json.

    run.json ─▶ read_config ─▶ RunConfig ─▶ write_config ─▶ run.json

A file that this version writes ends with a digest of its other fields. A damaged or edited file is refused,
because a flipped bit in a number would otherwise train another experiment. Older files have no digest.

The registration of a run in the journal has the same content (`RunConfig.of(row.config)`). Files of earlier
versions lack some fields, which then have their defaults. Unknown fields, of later versions, are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

from profiles.errors import UserError
from store.atomic import replace_text
from store.plain_json import parse_object
from store.subject import Changes

if TYPE_CHECKING:
    from profiles.schema import Profile

# Version 1: the first one that names itself. Files without a version have fewer fields, with the same meaning.
VERSION = 1
# The field of the file, not of the configuration, that holds the digest of all others.
DIGEST = "digest"


class ConfigFault(UserError, ValueError):
    """A configuration that cannot be used; the message is one line."""


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a run, with the arm that it trains ('' if it trains none)."""

    stage: StrictStr
    arm: StrictStr = ""

    @property
    def label(self) -> str:
        """The displayed name of the step: its arm if it has one, else its stage."""
        return self.arm or self.stage


class OutsideInput(BaseModel):
    """An input outside the home, as it was at the start of the run.

    `path` is empty for a model of the hub, and `commit` is then its commit. `files` has the digest of each file.
    """

    model_config = ConfigDict(frozen=True)
    path: StrictStr = ""
    files: dict[str, str] = {}
    commit: StrictStr = ""


class RunInputs(BaseModel):
    """The inputs of a run at its start.

    Attributes:
        home: path of the home.
        outside: setting (such as "model.source") → input outside the home.
        keys: stage → key of its cached output; see engine/data/locations.py.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    home: StrictStr = ""
    outside: dict[str, OutsideInput] = {}
    keys: dict[str, Any] = {}


def _named(profile: object) -> object:
    """Return a profile as a table; early versions wrote only its name."""
    return {"name": profile} if isinstance(profile, str) else profile


class RunConfig(BaseModel):
    """The configuration that a run was started with.

    `profile` is the frozen profile as a table: one of another version may not be valid today, but its run can
    still be shown and compared. `changed` has the settings that differ from the named profile. Relative paths
    of the profile start at `folder`. `created` is in Unix seconds.
    """

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="constants")
    version: StrictInt = 0
    run: StrictStr = ""
    name: StrictStr = ""
    profile: Annotated[dict[str, Any], BeforeValidator(_named)] = {}
    changed: Changes = {}
    seed: StrictInt = 0
    stages: tuple[StrictStr, ...] = ()
    plan: tuple[Step, ...] = ()
    folder: StrictStr = ""
    inputs: RunInputs | None = None
    versions: dict[str, Any] = {}
    git: dict[str, Any] = {}
    hardware: dict[str, Any] = {}
    created: StrictFloat = 0.0

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Self:
        """Return the configuration that `table` holds.

        Raises: ConfigFault for a field of the wrong type.
        """
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise ConfigFault(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None

    def table(self) -> dict[str, Any]:
        """Return the configuration as a JSON-ready table.

        Fields that the file did not have are left out.
        """
        return self.model_dump(mode="json", exclude_unset=True)

    def replaced(self, **values: object) -> Self:
        """Return the configuration with other values in some fields."""
        return self.of(self.table() | values)

    @cached_property
    def valid_profile(self) -> Profile:
        """Return the profile, validated once.

        Raises: profiles.errors.ProfileError if this version cannot use it.
        """
        # Imported late: it takes 0.1 s, and commands that only show runs do not need it.
        from profiles.load import validate

        return validate(self.profile, f"of {self.run or self.name}")

    @property
    def profile_name(self) -> str:
        """Return the name of the profile; "" if it has none."""
        return str(self.profile.get("name", ""))

    @property
    def model_source(self) -> str:
        """Return `model.source`: a hub name, a directory, or empty."""
        model = self.profile.get("model")
        return str(model.get("source", "")) if isinstance(model, dict) else ""

    @property
    def template(self) -> str:
        """Return the prompt form of tasks without one of their own."""
        section = self.profile.get("preprocess")
        return str(section.get("template", "")) if isinstance(section, dict) else ""

    @property
    def arms(self) -> tuple[str, ...]:
        """Return the names of the arms, in the profile's order."""
        return tuple(str(arm["name"]) for arm in self.profile.get("arms", ()))

    @property
    def evaluation(self) -> dict[str, Any]:
        """Return the settings of the evaluation: `profile.eval` as a table."""
        found: dict[str, Any] = self.profile["eval"]
        return found


def read_config(path: Path) -> RunConfig:
    """Return the configuration in the file `path`.

    Raises: OSError if it cannot be read, ValueError if it is damaged.
    """
    table = parse_object(path.read_bytes())
    digest = table.pop(DIGEST, None)
    if digest is not None and digest != _digest(table):
        raise ConfigFault("does not match its digest: it was damaged or edited")
    return RunConfig.of(table)


def write_config(path: Path, config: RunConfig) -> None:
    """Replace the file `path` by `config`. Raises: OSError."""
    # What a reader will parse, so that both compute the digest of equal values.
    table = json.loads(json.dumps(config.table()))
    replace_text(path, json.dumps(table | {DIGEST: _digest(table)}, indent=1))


def _digest(table: Mapping[str, Any]) -> str:
    content = json.dumps(table, sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=16).hexdigest()
