"""Load a profile, apply `--set` overrides and validate it.

Each error is one line. Values of overrides are read as TOML (`2e-6`, `true`, `[0, 8]`), or as plain text if
TOML cannot read them. Fields with several values also accept a comma list (`eval.suite=mmlu,winogrande`).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import tomli
from pydantic import BaseModel, ValidationError

from profiles.errors import ProfileError
from profiles.schema import Profile

FOLDER = Path(__file__).parent
# Maximum number of parts of a key, far more than any field has.
DEEPEST = 20
# Maximum number of characters of a given value, or of a parser's message.
LONGEST_SHOWN = 200


def names() -> list[str]:
    """Return the names of the profiles that come with the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name_or_path: str, overrides: Sequence[str] = ()) -> Profile:
    """Load a profile by name or path, with `section.field=value` overrides.

    Raises: ProfileError if the profile or an override cannot be used.
    """
    path = _locate(name_or_path)
    table = _read(path)
    table.setdefault("name", path.stem)
    for override in overrides:
        _apply(table, override)
    return validate(table, str(table["name"]))


def overridden(profile: Profile, overrides: Sequence[str]) -> Profile:
    """Return `profile` with `section.field=value` overrides applied.

    Raises: ProfileError if an override cannot be used.
    """
    if not overrides:
        return profile
    table = profile.model_dump(mode="json")
    for override in overrides:
        _apply(table, override)
    return validate(table, profile.name)


def validate(table: dict[str, Any], name: str) -> Profile:
    """Validate `table` and return it as a Profile.

    `name` appears in messages only.
    Raises: ProfileError with the first invalid field and, if it is unknown, the nearest known one.
    """
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
        table = tomli.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"profile {path}: not valid TOML: {_reason(error)}; correct it there") from None
    except OSError as error:
        raise ProfileError(
            f"profile {path}: cannot be read: {error.strerror}; give a readable file"
        ) from None
    _check_numbers(table, f"profile {path}: ")
    return table


def _apply(table: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ProfileError(f"--set {_clipped(override)}: write KEY=VALUE, for example sft.learning_rate=2e-6")
    *sections, field = key.strip().split(".")
    if len(sections) >= DEEPEST:
        raise ProfileError(
            f"--set {_clipped(key)}: a key of {len(sections) + 1:,} parts; a field has two or three"
        )
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ProfileError(
                f"--set {_clipped(override)}: {_clipped(section)} is not a table; to change arms, edit a profile file"
            )
        table = inner
    item = _item_type([*sections, field])
    try:
        table[field] = _value(text) if item is None else _values(text, item)
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"--set {_clipped(key.strip())}: cannot be read: {_reason(error)}") from None
    _check_numbers({key.strip(): table[field]}, "--set ")


def _item_type(path: Sequence[str]) -> Any:
    """Return the item type of the list field at `path`.

    Returns: None if the field is not a list of plain values.
    """
    kind: Any = Profile
    for name in path:
        if not (isinstance(kind, type) and issubclass(kind, BaseModel) and name in kind.model_fields):
            return None
        kind = kind.model_fields[name].annotation
    items = get_args(kind)
    is_table = bool(items) and isinstance(items[0], type) and issubclass(items[0], BaseModel)
    return items[0] if get_origin(kind) is tuple and not is_table else None


def _values(text: str, item: Any) -> list[Any]:
    """Parse a TOML list, a comma list or a single value."""
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


def _reason(error: Exception) -> str:
    """Return why TOML could not be read.

    For a long number, Python's own message advises to change a limit of Python.
    """
    if isinstance(error, (tomli.TOMLDecodeError, UnicodeDecodeError, RecursionError)):
        return _clipped(str(error))
    return "a whole number with thousands of digits"


def _check_numbers(table: dict[str, Any], where: str) -> None:
    """Raise ProfileError for the first whole number over 64 bits.

    64 bits are the range of TOML and of the store.
    """
    pending: list[tuple[str, Any]] = list(table.items())
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f"{name}.{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            pending += [(name, inner) for inner in value]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ProfileError(
                f"{where}{_clipped(name)}: a whole number of more than 64 bits; give a smaller one"
            )


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = _clipped(".".join(str(part) for part in fault["loc"]))
    if fault["type"] == "extra_forbidden":
        close = difflib.get_close_matches(where, _fields(Profile), n=1, cutoff=0.5)
        return f"{where}: no such field" + (f"; did you mean {close[0]}?" if close else "")
    message = fault["msg"].removeprefix("Value error, ")
    # A check of a whole section names its fields in its message.
    if fault["type"] == "value_error":
        return message
    field = fault["loc"][:2]
    form = (
        f"; write {'.'.join(map(str, field))}=A,B or [A, B]"
        if _item_type([str(part) for part in field])
        else ""
    )
    return f"{where}: {message[0].lower()}{message[1:]} (given: {_given(fault['input'])}){form}"


def _clipped(text: str) -> str:
    """Shorten `text` to fit one line of an error."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _given(value: Any) -> str:
    """Return a value as a message shows it."""
    try:
        return _clipped(repr(value))
    except RecursionError:
        return "a table in a table, and so on"


def _fields(model: type[BaseModel], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += [prefix + name, *_fields(inner, f"{prefix}{name}.")]
        else:
            found.append(prefix + name)
    return found
