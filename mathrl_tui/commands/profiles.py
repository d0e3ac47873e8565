"""`profiles`: the built-in experiments, and every field of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mathrl_tui.commands.options import AsJson
from mathrl_tui.commands.printing import print_json, table

if TYPE_CHECKING:
    from pydantic import BaseModel

profiles = typer.Typer(help="List profiles, or show every field of one with its value, unit and meaning.")


@profiles.callback(invoke_without_command=True)
def list_profiles(context: typer.Context, as_json: AsJson = False) -> None:
    """List profiles, or show every field of one.

    A field has its value, unit and meaning.
    """
    if context.invoked_subcommand is not None:
        return
    from profiles.load import load, names

    rows = [(name, load(name).description) for name in names()]
    if as_json:
        print_json({"profiles": [{"name": name, "description": description} for name, description in rows]})
    else:
        print(table(("profile", "description"), rows, left=2))


@profiles.command()
def show(
    profile: Annotated[str, typer.Argument(metavar="NAME", help="a profile's name or file")],
    as_json: AsJson = False,
) -> None:
    """Show every field of a profile: value, unit and meaning."""
    from profiles.load import load

    found = load(profile)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    for line in _fields(found):
        print(line)


def _fields(section: BaseModel, prefix: str = "") -> Iterator[str]:
    """Yield `section.field = value  # meaning`, as `--set` takes it.

    Each arm has its own line.
    """
    from pydantic import BaseModel

    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield ""
            yield from _fields(value, f"{prefix}{name}.")
        elif name == "arms":
            yield ""
            yield from (_arm(arm) for arm in value)
        else:
            yield f"{prefix}{name} = {_toml(value)}  # {field.description or 'see the sections below'}"


def _arm(arm: BaseModel) -> str:
    fields = arm.model_dump()
    origin = f"from {fields['parent']}" if fields["parent"] else "from model.source"
    return f"arm {fields['name']}: {fields['stage']}, {origin}"


def _toml(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
