"""What the console keeps in memory while it is used for days."""

from __future__ import annotations

import gc
from pathlib import Path

from textual.widgets._footer import FooterKey

from tests.support.console_pilot import console, opened, sees
from tests.support.fabricated import finished_run


async def test_going_to_and_fro_between_screens_keeps_no_old_keys(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    async with console(tmp_path) as (app, pilot):
        await opened(pilot, "enter", run.folder.run_id)
        for key, word in 6 * (("6", "trainer"), ("2", "smoothing")):
            await pilot.press(key)
            await sees(pilot, word)
        gc.collect()
        keys = [one for one in gc.get_objects() if type(one) is FooterKey and one.app is app]
        shown = [one for one in keys if one.is_attached]
        assert len(keys) < 2 * len(shown)  # those of the last switch may be on their way out
