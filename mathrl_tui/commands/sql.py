"""`sql`: a read-only query over everything that the store holds."""

from __future__ import annotations

from typing import Annotated

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.options import AsJson, Home
from mathrl_tui.commands.printing import print_json, table
from mathrl_tui.commands.settled import warn_of_damage
from mathrl_tui.core.text import harmless


def sql(
    home: Home,
    query: Annotated[str, typer.Argument(help="tables: run, run_event, scalar, eval_row, applied, damage")],
    as_json: AsJson = False,
) -> None:
    """Answer a query from a consistent copy of the store; it can change nothing."""
    import duckdb

    from store.query import Store

    try:
        if not duckdb.extract_statements(query):
            raise WrongInput('sql: no statement in the query; write one, as in "SELECT * FROM run"')
        store = Store(home)
        columns, rows = store.sql(query)
    except duckdb.Error as error:
        raise WrongInput(f"sql: {error}") from None
    warn_of_damage(store)
    if as_json:
        print_json({"columns": columns, "rows": rows})
    else:
        print(
            table(
                columns,
                [["" if cell is None else harmless(str(cell)) for cell in row] for row in rows],
                left=len(columns),
            )
        )
