"""The form of a new run: profile, stages, seeds, name, overrides.

It is validated on each change.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from engine.plan import PlanError, make_plan, parse_stages
from profiles.changes import changed_settings
from profiles.errors import ProfileError
from profiles.load import load
from profiles.schema import Profile
from store.home import RUN_NAME
from store.subject import Changes

MOST_SEEDS = 100
_SEEDS = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?\Z")


class FormError(ValueError):
    """The form is invalid; the message is one line."""


@dataclass(frozen=True, slots=True)
class CheckedForm:
    """A valid form; it starts one run for each seed.

    `steps` is the plan in words.
    """

    profile: Profile
    stages: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: tuple[str, ...]
    changed: Changes


def checked(profile: str, stages: Sequence[str], seeds: str, overrides: str, name: str = "") -> CheckedForm:
    """Parse and validate the form.

    Raises: FormError with the first fault.
    """
    if name and not RUN_NAME.match(name):
        raise FormError(f"name: {name}: use letters, digits and . _ + - only")
    try:
        loaded = load(profile.strip(), overrides_of(overrides))
        changed = changed_settings(profile.strip(), overrides_of(overrides))
        chosen = parse_stages(list(stages))
        plan = make_plan(loaded, chosen)
    except (ProfileError, PlanError) as error:
        raise FormError(str(error)) from None
    return CheckedForm(loaded, chosen, seeds_of(seeds), tuple(step.label for step in plan), changed)


def overrides_of(words: str) -> list[str]:
    """Split `sft.steps=100 grpo.loss=dr_grpo` into a list.

    Values with spaces need quotes.

    Raises: FormError if a quote is not closed.
    """
    try:
        return shlex.split(words.replace(";", " "))
    except ValueError as error:
        raise FormError(f"overrides: {str(error).lower()}; close the quote") from None


def seeds_of(words: str) -> tuple[int, ...]:
    """Parse `0`, `0 1 2`, `0,1,2` or `0-4` as seeds, without repetitions.

    Raises: FormError if a word is not a seed or range, a range is too long, or `words` is empty.
    """
    found: list[int] = []
    for word in words.replace(",", " ").split():
        written = _SEEDS.match(word)
        if written is None:
            raise FormError(f"seeds: {word[:40]}: write numbers such as 0 1 2, or a range such as 0-4")
        ends = int(written[1]), int(written[2] or written[1])
        if ends[1] < ends[0] or ends[1] - ends[0] >= MOST_SEEDS:
            raise FormError(f"seeds: {word}: a range must ascend and have at most {MOST_SEEDS} seeds")
        found += range(ends[0], ends[1] + 1)
    if not found:
        raise FormError("seeds: give at least one, for example 0")
    return tuple(dict.fromkeys(found))
