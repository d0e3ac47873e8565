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


async def test_two_runs_whose_names_are_cut_alike_are_compared(tmp_path: Path) -> None:
    names = [f"an-experiment-with-a-long-name-s{seed}-20260101-000000" for seed in (0, 1)]
    for name in names:
        finished_run(tmp_path, name)
    async with console(tmp_path, SMALL) as (_, pilot):
        await sees(pilot, "an-experiment-with-a-long-n…")
        await pilot.press("8")
        await sees(pilot, "No setting differs")
        await pilot.press("f")
        await sees(pilot, "eval.confidence", "0.95")
        await pilot.resize_terminal(40, 12)
        await sees(pilot, "setting              …  …")
