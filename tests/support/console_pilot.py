"""Driving the console by keys and reading it as text, for the tests of its screens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot

from mathrl_tui.app import Console
from mathrl_tui.widgets.keyed_table import KeyedTable

SMALL, LARGE = (80, 24), (200, 50)
PATIENCE = 20.0


@asynccontextmanager
async def console(home: Path, size: tuple[int, int] = SMALL) -> AsyncIterator[tuple[Console, Pilot[None]]]:
    app = Console(home)
    async with app.run_test(size=size, notifications=True) as pilot:
        yield app, pilot


async def until(pilot: Pilot[None], holds: Callable[[], bool], what: str) -> None:
    """Lets the app run until `holds`; fails with `what` after PATIENCE seconds."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"never seen: {what}\n{plain(pilot.app)}"
        await pilot.pause(0.02)


def plain(app: object) -> str:
    """All that stands on the screen, as text."""
    assert isinstance(app, Console)
    size = app.size
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in strips[: size.height])


async def sees(pilot: Pilot[None], *words: str) -> str:
    """Waits until all `words` stand on the screen."""
    await until(pilot, lambda: all(word in plain(pilot.app) for word in words), " and ".join(words))
    return plain(pilot.app)


async def opened(pilot: Pilot[None], key: str, run: str) -> None:
    """Chooses the run in the list and goes to the screen behind `key`."""
    await sees(pilot, run)
    table = pilot.app.screen.query_one(KeyedTable)
    table.choose(run)
    app = pilot.app
    assert isinstance(app, Console)
    await until(pilot, lambda: app.run_id == run, f"{run} chosen")
    await pilot.press(key)
