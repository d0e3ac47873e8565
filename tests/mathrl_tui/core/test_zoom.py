"""A zoomed chart shows the stored rows of its window, not a few entries of the reduced history."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mathrl_tui.core.curve import Curve
from mathrl_tui.core.home_data import HomeData
from mathrl_tui.core.zoom import CurveDetails, Window, covering
from mathrl_tui.screens.run import RunScreen
from store.records import Scalar
from tests.support.console_pilot import LARGE, console, opened, sees, until
from tests.support.fabricated import FabricatedRun

STEPS = 30_000
METRIC = "sft/train/loss"


def long_run(home: Path, run_id: str = "demo-s0-long") -> FabricatedRun:
    run = FabricatedRun(home, run_id)
    run.write(run.event("state", state="running", reason=""))
    run.write(*(Scalar(METRIC, step, float(step % 7), run.now + step) for step in range(STEPS)))
    run.write(run.event("state", state="done", reason=""))
    return run


@pytest.mark.parametrize(
    ("first", "last", "window"),
    [
        # A quarter of 100 is 25; the grain is 16.
        (100, 200, Window(96, 208)),
        (104, 204, Window(96, 208)),
        (5, 5, Window(5, 6)),
        (0, 4000, Window(0, 4096)),
    ],
)
def test_a_window_covers_its_steps_and_moves_in_large_strides(first: int, last: int, window: Window) -> None:
    assert covering(first, last) == window


def test_the_window_has_every_row_and_the_rest_is_unchanged(tmp_path: Path) -> None:
    long_run(tmp_path)
    data = HomeData(tmp_path)
    whole = data.run("demo-s0-long", [METRIC]).curves[METRIC]
    inside = data.run("demo-s0-long", [METRIC], windows={METRIC: Window(12_000, 12_099)}).curves[METRIC]
    shown = (inside.step >= 12_000) & (inside.step < 12_100)
    assert inside.step[shown].tolist() == list(range(12_000, 12_100))
    assert inside.mean[shown].tolist() == [step % 7 for step in range(12_000, 12_100)]
    assert (np.diff(inside.step) > 0).all()
    assert whole.step[whole.step < 12_000].tolist() == inside.step[inside.step < 12_000].tolist()
    assert whole.step[whole.step >= 12_100].tolist() == inside.step[inside.step >= 12_100].tolist()


def test_the_store_is_asked_again_only_for_another_window() -> None:
    asked: list[tuple[str, Window]] = []

    def read(run_id: str, metric: str, _timed: bool, window: Window) -> Curve:
        asked.append((metric, window))
        return curve(range(window.start, window.end))

    def curve(steps: Sequence[int]) -> Curve:
        return Curve.of(steps, [0.0] * len(steps), [0.0] * len(steps))

    details = CurveDetails(read)
    curves = {"a": curve(range(0, 1000, 100))}
    for window in (Window(200, 300), Window(200, 300), Window(300, 400)):
        spliced = details.of("run", curves, {"a": window}, ())["a"]
        assert len(spliced) == 100 + 9
    assert asked == [("a", Window(200, 300)), ("a", Window(300, 400))]
    assert details.of("run", {}, {"a": Window(0, 5)}, ()) == {}


@pytest.mark.parametrize("axis", ["step", "time", "tokens"])
async def test_a_deep_zoom_fills_its_chart(tmp_path: Path, axis: str) -> None:
    run = long_run(tmp_path)
    run.write(*(run.scalar("sft/train/tokens", step, 10.0) for step in range(STEPS)))
    async with console(tmp_path, LARGE) as (app, pilot):
        await opened(pilot, "2", run.folder.run_id)
        await sees(pilot, "smoothing")
        for _ in ("step", "time", "tokens")[: ("step", "time", "tokens").index(axis)]:
            await pilot.press("x")
        await pilot.press(*["plus"] * 8)
        screen = app.screen
        assert isinstance(screen, RunScreen)

        def entries() -> int:
            window = screen.wall.windows().get(METRIC)
            run = screen.wall._run
            if window is None or run is None:
                return 0
            step = run.curves[METRIC].step
            return int(((step >= window.start) & (step <= window.end)).sum())

        await until(pilot, lambda: entries() > 100, "the rows of the window")
