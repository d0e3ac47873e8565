"""Keys that are typed faster than the console handles them reach the search field, and only the field."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events

from mathrl_tui.app import Console
from mathrl_tui.screens.searching import SearchField
from tests.support.console_pilot import LARGE, console, opened, sees, until
from tests.support.fabricated import finished_run

RUN = "demo-s0-finished"


def typed_at_once(app: Console, *keys: str) -> None:
    """Queues all keys before the app handles the first one."""
    for key in keys:
        app.post_message(events.Key(key, "/" if key == "slash" else None))


@pytest.mark.parametrize(("screen", "ready"), [("2", "smoothing"), ("5", "/ Search"), ("6", "▸events")])
async def test_keys_after_the_search_key_reach_the_search_field(
    tmp_path: Path, screen: str, ready: str
) -> None:
    finished_run(tmp_path, RUN)
    async with console(tmp_path, LARGE) as (app, pilot):
        await opened(pilot, screen, RUN)
        await sees(pilot, ready)
        field = app.screen.query_one(SearchField)
        # `f`, `o` and `z` are keys of these screens, too.
        typed_at_once(app, "slash", "f", "o", "slash", "z", "enter")
        await until(pilot, lambda: field.value == "fo/z" and not field.display, "the words in the field")
        typed_at_once(app, "slash", "q", "escape", "slash", "y", "enter")
        await until(pilot, lambda: field.value == "y" and not field.display, "the last word in the field")
