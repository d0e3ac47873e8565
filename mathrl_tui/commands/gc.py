"""`gc`: remove files that no run of the home needs."""

from __future__ import annotations

import typer

from mathrl_tui.commands.errors import CommandFailed
from mathrl_tui.commands.options import AsJson, Home
from mathrl_tui.commands.printing import print_json, print_notice, table
from mathrl_tui.commands.removing import DryRun, Yes, confirm


def gc(home: Home, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Remove unneeded files; runs are removed by `rm`.

    These are damaged files that were set aside, leftovers of dead processes, and outputs that no run uses.
    The list with sizes comes first, then the question.
    """
    from engine.cleanup.disk_usage import readable
    from engine.cleanup.garbage import free_blocks, garbage, remove

    items, notes = garbage(home)
    if line := free_blocks(home):
        notes.append(line)
    total = sum(item.bytes for item in items)
    if not as_json and items:
        rows = [(item.kind, str(item.path.relative_to(home)), readable(item.bytes)) for item in items]
        print(table(("what", "where", "size"), rows, left=2), flush=True)
    elif not as_json:
        print(f"nothing to remove in {home}")
    for note in notes:
        print_notice(f"note: {note}")
    stayed: list[str] = []
    if items and not dry_run:
        if not confirm("gc", f"Remove these, {readable(total)}?", yes):
            raise typer.Abort
        stayed = remove(home, items)
        if not as_json and not stayed:
            print(f"removed {readable(total)}")
    if as_json:
        listed = [
            {"kind": item.kind, "path": str(item.path), "run": item.run, "bytes": item.bytes}
            for item in items
        ]
        print_json({"bytes": total, "dry_run": dry_run, "items": listed, "notes": notes, "stayed": stayed})
    if stayed:
        raise CommandFailed("; ".join(stayed))
