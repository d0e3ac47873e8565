"""`sql`: a read-only query over everything that the store holds."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.ingested import warn_of_damage
from mathrl_tui.commands.options import AsJson, Home
from mathrl_tui.commands.printing import print_json, table

_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(%|[KMGT]i?B)", re.IGNORECASE)
_POWERS = "KMGT"


def sql(
    home: Home,
    query: Annotated[str, typer.Argument(help="tables: run, run_event, scalar, eval_row, applied, damage")],
    timeout: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="end the query after this time; 0: no limit")
    ] = 60.0,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="memory that the query may take: 4GB, 800MiB, 25%")
    ] = "50%",
    as_json: AsJson = False,
) -> None:
    """Run a read-only query on a consistent copy of the store."""
    import duckdb

    from store.query import Store
    from store.sql import Limits

    limits = Limits(timeout, _bytes(memory))
    try:
        if not duckdb.extract_statements(query):
            raise WrongInput('sql: no statement in the query; write one, as in "SELECT * FROM run"')
        store = Store(home)
        columns, rows = store.sql(query, limits)
    except duckdb.Error as error:
        raise WrongInput(f"sql: {error}") from None
    warn_of_damage(store)
    if as_json:
        print_json({"columns": columns, "rows": rows})
    else:
        cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
        print(table(columns, cells, left=len(columns)))


def _bytes(text: str) -> int:
    """Return the bytes that `text` (4GB, 800MiB, 25%) means.

    Raises: WrongInput if it is not a size.
    """
    from store.sql import available_memory

    found = _SIZE.fullmatch(text.strip())
    number = float(found[1]) if found else 0.0
    if not found or number <= 0:
        raise WrongInput(f"--memory {text}: write a size such as 4GB, 800MiB or 25%")
    if found[2] == "%":
        return int(available_memory() * number / 100)
    base = 1024 if len(found[2]) == 3 else 1000
    return int(number * base ** (1 + _POWERS.index(found[2][0].upper())))
