"""What people type, and what runs and models write, stands in the console as it is: nothing of it is obeyed."""

from __future__ import annotations

from pathlib import Path

from console_pilot import SMALL, console, opened, sees
from fabricated import finished_run


async def test_a_search_for_brackets(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, SMALL) as (_, pilot):
        await opened(pilot, "6", "demo-s0-finished")
        await sees(pilot, "✓ state")
        await pilot.press("slash", *"[/b]x [red]")
        await sees(pilot, "no line contains “[/b]x [red]”")
