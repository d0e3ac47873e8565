"""Crosshair, windows chosen with the mouse, logarithmic x-axis, smoothing weights and markers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mathrl_tui.core import chart, palette
from mathrl_tui.core.chart import View
from mathrl_tui.core.chart_canvas import GUTTER
from mathrl_tui.core.chart_markers import markers
from mathrl_tui.core.curve import Curve, memory_of, smoothed
from store.records import Event

WIDTH, HEIGHT = GUTTER + 101, 14
# Steps 0 to 100, so that each column of the canvas is one step; the value is the square of the step.
STEPS = np.arange(101.0)
LOOK = palette.Look("▲", "#f0a830")
LINE = chart.Line("sft", LOOK, Curve.of(STEPS, STEPS**2, STEPS * 3.0 + 50.0))
RAW = View(memory=0)


def _plain(view: View, *lines: chart.Line, markers: tuple[chart.Marker, ...] = ()) -> list[str]:
    rows = chart.draw("loss", lines or [LINE], view, WIDTH, HEIGHT, markers=markers)
    return ["".join(part for part, _ in row) for row in rows]


@pytest.mark.parametrize("step", [0, 1, 37, 99, 100])
def test_a_cell_and_its_position_are_inverse(step: int) -> None:
    cell = GUTTER + step
    assert chart.position([LINE], RAW, WIDTH, cell) == pytest.approx(step)
    assert chart.cell_of([LINE], RAW, WIDTH, step) == pytest.approx(cell)
    time = replace(RAW, x="time")
    place = chart.position([LINE], time, WIDTH, cell)
    assert place is not None and chart.cell_of([LINE], time, WIDTH, place) == pytest.approx(cell)


def test_positions_beyond_the_canvas_are_its_ends() -> None:
    assert chart.position([LINE], RAW, WIDTH, 0) == 0.0
    assert chart.position([LINE], RAW, WIDTH, 10_000) == 100.0
    assert chart.position([], RAW, WIDTH, 50) is None


def test_the_crosshair_gives_every_lines_value_at_its_step() -> None:
    other = chart.Line("grpo", palette.Look("■", "#5cb8f0"), Curve.of(STEPS, -STEPS, STEPS))
    head, *body = _plain(replace(RAW, cross=36.7), LINE, other)
    assert "▲ sft 1369 @37" in head and "■ grpo −37 @37" in head
    crossed = [row for row in body[:-2] if row[GUTTER + 37] != " "]
    assert len(crossed) == len(body) - 2
    smooth = smoothed(STEPS, STEPS**2, -1 / math.log(0.8))[37]
    assert f"1369 @37 ~{smooth:.4g}" in _plain(View(cross=37))[0]


def test_a_line_without_a_value_there_shows_its_newest() -> None:
    short = chart.Line("grpo", palette.Look("■", "#5cb8f0"), Curve.of(STEPS[:10], STEPS[:10], STEPS[:10]))
    head = _plain(replace(RAW, cross=50.0), LINE, short)[0]
    assert "▲ sft 2500 @50" in head and "■ grpo 9  " in head


def test_a_crosshair_outside_the_window_is_not_drawn() -> None:
    view = chart.zoomed_to([LINE], RAW, 60.0, 100.0)
    plain, crossed = _plain(view), _plain(replace(view, cross=10.0))
    assert plain[1:] == crossed[1:]


@pytest.mark.parametrize("ends", [(20.0, 45.0), (45.0, 20.0)])
def test_a_selection_becomes_the_window(ends: tuple[float, float]) -> None:
    view = chart.zoomed_to([LINE], RAW, *ends)
    assert chart.window(view, 0.0, 100.0) == pytest.approx((20.0, 45.0))
    assert chart.position([LINE], view, WIDTH, GUTTER) == pytest.approx(20.0)
    assert chart.position([LINE], view, WIDTH, GUTTER + 100) == pytest.approx(45.0)
    # Inside a window, the next selection is of the same unit.
    inner = chart.zoomed_to([LINE], view, 30.0, 35.0)
    assert chart.window(inner, 0.0, 100.0) == pytest.approx((30.0, 35.0))


def test_the_wheel_keeps_what_is_under_the_pointer() -> None:
    rng = np.random.default_rng(0)
    view = RAW
    for _ in range(200):
        place = chart.position([LINE], view, WIDTH, GUTTER + int(rng.integers(0, 101)))
        assert place is not None
        before = chart.cell_of([LINE], view, WIDTH, place)
        view = chart.zoomed_at([LINE], view, place, float(rng.choice([-0.5, 0.5])))
        start, end = chart.window(view, 0.0, 100.0)
        assert -1e-9 <= start < end <= 100.0 + 1e-9
        if start > 1e-6 and end < 100.0 - 1e-6:
            assert chart.cell_of([LINE], view, WIDTH, place) == pytest.approx(before, abs=1e-3)


def test_a_window_at_the_end_follows_the_run() -> None:
    view = chart.zoomed_to([LINE], RAW, 80.0, 100.0)
    assert view.offset == 0.0


def test_a_logarithmic_x_axis_places_powers_of_ten_evenly() -> None:
    steps = np.arange(1.0, 10_001.0)
    line = chart.Line("sft", LOOK, Curve.of(steps, steps, steps))
    view = replace(RAW, log_x=True)
    cells = [chart.cell_of([line], view, WIDTH, 10.0**power) - GUTTER for power in range(5)]
    assert cells == pytest.approx([0, 25, 50, 75, 100])
    assert chart.position([line], view, WIDTH, GUTTER + 50) == pytest.approx(100.0)
    foot = _plain(view, line)[-1]
    assert foot.split() == ["step", "log", "1", "10", "100", "1000", "10k"]
    window = chart.zoomed_to([line], view, 10.0, 1000.0)
    assert chart.position([line], window, WIDTH, GUTTER + 50) == pytest.approx(100.0)


def test_a_weight_keeps_its_share_at_each_step_of_a_short_series() -> None:
    for weight in chart.SMOOTHING[1:]:
        assert math.exp(-1 / memory_of(weight, 900.0)) == pytest.approx(weight)
    assert memory_of(0.0, 900.0) == 0.0
    assert chart.SMOOTHING[0] == 0.0 and chart.SMOOTHING[-1] == 0.99
    assert list(chart.SMOOTHING) == sorted(chart.SMOOTHING)


def test_a_weight_smooths_long_series_alike() -> None:
    for steps in (2e4, 1e6, 1e7):
        share = memory_of(0.9, steps) / steps
        assert 1.0 <= share / (memory_of(0.9, 1000.0) / 1000.0) <= 2.0
    # It changes rarely while a run grows.
    assert len({memory_of(0.9, steps) for steps in range(1000, 100_000)}) <= 8


def _event(kind: str, arm: str, step: int = -1, **payload: str) -> Event:
    return Event(kind, "", "sft", arm, step, dict(payload), 1.0)


def test_checkpoints_and_resumes_stand_on_the_x_axis() -> None:
    found = markers(
        [
            _event("stage", "sft", status="started"),
            _event("checkpoint", "sft", 20),
            _event("checkpoint", "other", 30),
            _event("checkpoint", "sft", 40),
            _event("stage", "sft", status="started"),
            _event("checkpoint", "sft", 80),
        ],
        {"sft": LOOK},
    )
    assert [(one.letter, one.step) for one in found] == [("c", 20), ("c", 40), ("R", 40), ("c", 80)]
    foot = _plain(RAW, markers=found)[-2]
    assert {foot[GUTTER + step] for step in (20, 80)} == {"c"} and foot[GUTTER + 40] == "R"
    zoomed = _plain(chart.zoomed_to([LINE], RAW, 60.0, 100.0), markers=found)[-2]
    assert zoomed.count("c") == 1 and "R" not in zoomed
