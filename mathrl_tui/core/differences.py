"""Settings of a run, and their differences from another run.

Settings have the names that `--set` uses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from profiles.schema import Profile
from store.results import RunSummary
from store.run_config import RunConfig

MISSING = "–"
# These differ between any two runs, or repeat the profile's fields.
_NAMES = ("version", "run", "name", "created", "changed")
_TOLD_APART = ("seed", "profile", "hardware", "plan")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a run and of another run.

    The value is a dash if a run does not have the setting.
    """

    key: str
    mine: str
    theirs: str

    @property
    def differs(self) -> bool:
        """Return True if the two values differ."""
        return self.mine != self.theirs


def compared(mine: RunConfig, theirs: RunConfig) -> list[Setting]:
    """Return each setting of two frozen configurations, in their order."""
    left, right = dict(settings(mine)), dict(settings(theirs))
    return [
        Setting(key, left.get(key, MISSING), right.get(key, MISSING))
        for key in dict.fromkeys([*left, *right])
    ]


def settings(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yield the leaves of a run's frozen configuration as (name, value).

    The order is seed, profile with arms by name, then the machine.
    """
    profile = dict(config.profile)
    profile["arms"] = {arm["name"]: arm for arm in profile.get("arms", ())}
    profile["profile"] = profile.pop("name", "")
    about = {key: value for key, value in config.table().items() if key not in (*_NAMES, *_TOLD_APART)}
    plan = [" ".join(filter(None, (step.stage, step.arm))) for step in config.plan]
    yield "seed", _shown(config.seed)
    yield from _leaves({**profile, **about, "machine": config.hardware, "plan": plan}, "")


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        yield key, ", ".join(map(_shown, value)) or "none"
    else:
        yield key, _shown(value)


def _shown(value: Any) -> str:
    return (value or "(empty)") if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def meaning(key: str) -> str:
    """Return the schema's description of a setting.

    Returns: "" if it is not a profile field.
    """
    section: Any = Profile
    words = ""
    for name in key.split("."):
        if not (
            isinstance(section, type) and issubclass(section, BaseModel) and name in section.model_fields
        ):
            return ""
        field = section.model_fields[name]
        section, words = field.annotation, field.description or ""
    return words


def nearest(runs: Sequence[RunSummary], run_id: str) -> str:
    """Return the default run to compare with; empty without another run.

    It is the previous run of the same profile, else the previous run, else any other. `runs` is newest first.
    """
    places = [one.run for one in runs]
    place = places.index(run_id) if run_id in places else -1
    before, after = runs[place + 1 :], runs[: max(place, 0)]
    profile = runs[place].profile if place >= 0 else ""
    alike = [one.run for one in before if one.profile == profile]
    return next(iter([*alike, *(one.run for one in (*before, *reversed(after)))]), "")
