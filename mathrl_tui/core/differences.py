"""What a run was set to, and in what it differs from another: settings under the names that `--set` takes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from profiles import Profile
from store.results import RunSummary

MISSING = "–"
_NAMES = ("run", "name", "created", "changed")  # differ between any two runs, or repeat the profile's fields
_TOLD_APART = ("seed", "profile", "hardware", "plan")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a run, and of the other one where there is one; a dash where it has none."""

    key: str
    mine: str
    theirs: str

    @property
    def differs(self) -> bool:
        """True where the two runs are set otherwise."""
        return self.mine != self.theirs


def compared(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Setting]:
    """Every setting that either of two frozen configurations has, in their order."""
    left, right = dict(settings(mine)), dict(settings(theirs))
    return [
        Setting(key, left.get(key, MISSING), right.get(key, MISSING))
        for key in dict.fromkeys([*left, *right])
    ]


def settings(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The leaves of a run's frozen configuration as (name, value): seed, profile, arms by name, then its machine."""
    profile = dict(config.get("profile", {}))
    profile["arms"] = {arm["name"]: arm for arm in profile.get("arms", ())}
    profile["profile"] = profile.pop("name", "")
    about = {key: value for key, value in config.items() if key not in (*_NAMES, *_TOLD_APART)}
    plan = [" ".join(filter(None, step.values())) for step in config.get("plan", ())]
    yield "seed", _shown(config.get("seed"))
    yield from _leaves({**profile, **about, "machine": config.get("hardware", {}), "plan": plan}, "")


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
    """The sentence that the profile's schema has about a setting; empty of what is no field of a profile."""
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
    """The run to compare with where none was chosen: the one before it of the same profile, else the one before it,
    else any other; empty where there is none. `runs` are all runs, newest first.
    """
    places = [one.run for one in runs]
    place = places.index(run_id) if run_id in places else -1
    before, after = runs[place + 1 :], runs[: max(place, 0)]
    profile = runs[place].profile if place >= 0 else ""
    alike = [one.run for one in before if one.profile == profile]
    return next(iter([*alike, *(one.run for one in (*before, *reversed(after)))]), "")
