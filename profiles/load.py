"""From a name or a path, and `--set` overrides, to a checked `Profile`; every fault is one line.

The overrides' values are read as TOML (`2e-6`, `true`, `[0, 8]`), and as plain text if TOML cannot read them. Fields
that hold several values also take a comma list (`eval.suite=mmlu,winogrande`).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import tomli
from pydantic import BaseModel, ValidationError

from profiles.schema import Profile

FOLDER = Path(__file__).parent
LONGEST_SHOWN = 200  # characters of a given value or of a parser's message


class ProfileError(ValueError):
    """A profile or override that cannot be used; the message is one line for the user."""


def names() -> list[str]:
    """Names of the profiles that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name_or_path: str, overrides: Sequence[str] = ()) -> Profile:
    """The profile called `name_or_path` (or in that file) with `section.field=value` overrides applied."""
    path = _locate(name_or_path)
    table = _read(path)
    table.setdefault("name", path.stem)
    for override in overrides:
        _apply(table, override)
    return validate(table, str(table["name"]))


def overridden(profile: Profile, overrides: Sequence[str]) -> Profile:
    """Return `profile` with `section.field=value` overrides applied. Raises: ProfileError."""
    table = profile.model_dump(mode="json")
    for override in overrides:
        _apply(table, override)
    return validate(table, profile.name)


def validate(table: dict[str, Any], name: str) -> Profile:
    """`table` as a Profile; ProfileError names the first faulty field and the nearest known one."""
    try:
        return Profile.model_validate(table)
    except ValidationError as error:
        raise ProfileError(f"profile {name}: {_first_fault(error)}") from None


def _locate(name_or_path: str) -> Path:
    built_in = FOLDER / f"{name_or_path}.toml"
    if "/" not in name_or_path and built_in.is_file():
        return built_in
    path = Path(name_or_path)
    if path.is_file():
        return path
    close = difflib.get_close_matches(name_or_path, names(), n=1)
    hint = f"did you mean {close[0]}?" if close else f"known profiles: {', '.join(names())}"
    raise ProfileError(f"profile {name_or_path}: no such profile or file; {hint}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(path.read_text(encoding="utf-8"))
    # RecursionError: nested too deeply, or a key of too many parts. ValueError also: an integer of too many digits.
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"profile {path}: not TOML that can be read: {_clipped(str(error))}") from None
    except OSError as error:
        raise ProfileError(f"profile {path}: cannot be read: {error.strerror}") from None


def _apply(table: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ProfileError(f"--set {override}: write KEY=VALUE, for example sft.learning_rate=2e-6")
    *sections, field = key.strip().split(".")
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ProfileError(f"--set {override}: {section} is no table; arms are changed in a profile file")
        table = inner
    item = _item_type([*sections, field])
    table[field] = _value(text) if item is None else _values(text, item)


def _item_type(path: Sequence[str]) -> Any:
    """Return the type of the plain values that the field at `path` holds several of; None if it holds no such."""
    kind: Any = Profile
    for name in path:
        if not (isinstance(kind, type) and issubclass(kind, BaseModel) and name in kind.model_fields):
            return None
        kind = kind.model_fields[name].annotation
    items = get_args(kind)
    is_table = bool(items) and isinstance(items[0], type) and issubclass(items[0], BaseModel)
    return items[0] if get_origin(kind) is tuple and not is_table else None


def _values(text: str, item: Any) -> list[Any]:
    """Return the values of a TOML list, of a comma list, or of a single value."""
    found = _value(text)
    if isinstance(found, list):
        return found
    parts = [part.strip() for part in text.strip().removeprefix("[").removesuffix("]").split(",")]
    return [part.strip("'\"") if item is str else _value(part) for part in parts if part]


def _value(text: str) -> Any:
    try:
        return tomli.loads(f"value = {text}")["value"]
    except tomli.TOMLDecodeError:
        return text.strip()
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"--set …={_clipped(text)}: cannot be read: {error}") from None


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        close = difflib.get_close_matches(where, _fields(Profile), n=1, cutoff=0.5)
        return f"{where}: no such field" + (f"; did you mean {close[0]}?" if close else "")
    message = fault["msg"].removeprefix("Value error, ")
    # Checks of a whole section name their fields themselves.
    if fault["type"] == "value_error":
        return message
    field = fault["loc"][:2]
    form = (
        f"; write {'.'.join(map(str, field))}=A,B or [A, B]"
        if _item_type([str(part) for part in field])
        else ""
    )
    return f"{where}: {message[0].lower()}{message[1:]} (given: {_clipped(repr(fault['input']))}){form}"


def _clipped(text: str) -> str:
    """Return `text` at a length that a line of an error can hold."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _fields(model: type[BaseModel], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += [prefix + name, *_fields(inner, f"{prefix}{name}.")]
        else:
            found.append(prefix + name)
    return found
