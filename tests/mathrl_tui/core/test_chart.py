"""How a chart is drawn: smoothing, reduction to columns, axes, braille cells, lines, windows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mathrl_tui.core import axis, canvas, chart, palette, text
from mathrl_tui.core.curve import LONGEST, Curve, columns, cumulative, smoothed


def test_smoothing_is_the_normalised_weighted_mean_of_what_came_before() -> None:
    rng = np.random.default_rng(0)
    step = np.cumsum(rng.integers(1, 5, 60)).astype(float)
    value = rng.normal(size=60)
    value[7] = math.nan
    expected = []
    for index in range(60):
        weight = np.exp(-(step[index] - step[: index + 1]) / 8.0)
        known = ~np.isnan(value[: index + 1])
        expected.append(
            float((weight * np.nan_to_num(value[: index + 1]))[known].sum() / weight[known].sum())
        )
    expected[7] = math.nan
    np.testing.assert_allclose(smoothed(step, value, 8.0), expected, rtol=1e-12)
    assert smoothed(step, value, 0) is value


def test_columns_keep_every_extreme() -> None:
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(-10, 110, 5000))
    y = rng.normal(size=5000)
    low, high = columns(x, y, y, 0.0, 100.0, 37)
    inside = (x >= 0) & (x <= 100)
    place = np.floor((x - 0) / 100 * 36 + 0.5).astype(int)
    for column in range(37):
        here = y[inside & (place == column)]
        assert (low[column], high[column]) == (here.min(), here.max())


def test_columns_without_entries_are_nan() -> None:
    low, high = columns(np.array([0.0, 100.0]), np.array([1.0, 2.0]), np.array([1.0, 2.0]), 0.0, 100.0, 5)
    assert list(np.isnan(low)) == [False, True, True, True, False]
    assert (high[0], high[4]) == (1.0, 2.0)


def test_a_curve_takes_a_step_once_and_stays_bounded_with_its_extremes() -> None:
    curve = Curve.of([1, 2, 3], [5.0, 4.0, 3.0], [0, 1, 2])
    curve = curve.extended([2, 3, 4], [9.0, 9.0, 2.0], [3, 4, 5])
    assert curve.step.tolist() == [1, 2, 3, 4] and curve.mean.tolist() == [5, 4, 3, 2]
    count = 3 * LONGEST
    value = np.sin(np.arange(count))
    value[777] = 50.0
    long = Curve.of([], [], [])
    for start in range(0, count, 500):
        part = slice(start, start + 500)
        long = long.extended(
            np.arange(count)[part].tolist(), value[part].tolist(), np.arange(count)[part].tolist()
        )
    assert len(long) <= LONGEST
    assert long.high.max() == 50.0 and long.step[-1] == count - 1
    assert np.all(np.diff(long.step) > 0)


def test_tokens_add_up_over_buckets_as_over_points() -> None:
    points = Curve.of(range(1, 9), [10.0] * 8, range(8))
    assert cumulative(points).tolist() == [10, 20, 30, 40, 50, 60, 70, 80]
    buckets = Curve.of([2, 4, 6, 8], [10.0] * 4, range(4))
    assert cumulative(buckets)[-1] - cumulative(buckets)[0] == 60


@pytest.mark.parametrize(
    ("span", "parts", "step"),
    [(10.0, 5, 2.0), (1.0, 4, 0.25), (7.0, 3, 2.5), (0.03, 3, 0.01), (300.0, 6, 50.0)],
)
def test_steps_are_round(span: float, parts: int, step: float) -> None:
    assert axis.round_step(span, parts) == pytest.approx(step)


def test_value_axes_hold_what_they_show() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        low, span = rng.normal() * 10.0 ** rng.integers(-3, 4), 10 ** rng.uniform(-4, 4)
        found = axis.value_axis(low, low + span, 5)
        assert found.start <= low + 1e-6 * span and found.end >= low + span - 1e-6 * span
        assert found.end - found.start < 2.1 * span
        assert len(set(found.labels)) == len(found.labels) >= 1


def test_log_axes_end_on_powers_of_ten() -> None:
    found = axis.value_axis(math.log10(0.02), math.log10(300.0), 8, log=True)
    assert found.labels == ("0.01", "0.1", "1", "10", "100", "1000")


def test_the_end_of_a_growing_axis_moves_in_steps() -> None:
    ends = {axis.position_axis(0, step, 6, "step", snap=True).end for step in range(800, 1000)}
    assert len(ends) <= 5


def test_time_axes_have_ticks_that_clocks_have() -> None:
    assert axis.position_axis(0, 3600, 6, "time", snap=False).labels == (
        "0:00",
        "10:00",
        "20:00",
        "30:00",
        "40:00",
        "50:00",
        "1:00:00",
    )


def test_lines_are_connected_and_bridge_gaps() -> None:
    value = np.array([0.0, np.nan, np.nan, 1.0, 0.0, np.nan])
    dots = canvas.line(value, 20)
    assert not dots[:, 5].any()
    for column in range(4):
        here, there = np.flatnonzero(dots[:, column]), np.flatnonzero(dots[:, column + 1])
        assert here.min() <= there.max() + 1 and there.min() <= here.max() + 1
    assert dots[19, 0] and dots[0, 3] and dots[19, 4]


def test_braille_cells_match_the_unicode_table() -> None:
    dots = np.zeros((4, 4), dtype=bool)
    dots[0, 0] = dots[3, 1] = dots[2, 3] = True
    assert [chr(0x2800 + int(bits)) for bits in canvas.cells(dots)[0]] == ["⢁", "⠠"]


def _line(count: int = 500, name: str = "sft") -> chart.Line:
    step = np.arange(1, count + 1)
    curve = Curve.of(step.tolist(), np.exp(-step / 100).tolist(), (step * 2.0).tolist())
    return chart.Line(name, palette.arms(["base", "sft"])[name], curve, Curve.of(step, [100.0] * count, step))


@pytest.mark.parametrize("size", [(80, 9), (40, 6), (154, 15), (20, 3), (200, 50)])
@pytest.mark.parametrize("x", chart.X_AXES)
@pytest.mark.parametrize("zoom", [0, 3])
def test_a_chart_fills_its_place_exactly(size: tuple[int, int], x: chart.XAxis, zoom: int) -> None:
    width, height = size
    rows = chart.draw(
        "loss", [_line(), _line(60, "base")], chart.View(x, 3, zoom), width, height, focused=True
    )
    assert [sum(len(part) for part, _ in row) for row in rows] == [width] * height


def test_a_falling_curve_falls_on_the_canvas_and_ends_with_its_mark() -> None:
    rows = chart.draw("loss", [_line()], chart.View(memory=0), 80, 20)
    plain = ["".join(part for part, _ in row) for row in rows]
    assert plain[0].split() == ["loss", "▲", "sft", text.number(math.exp(-5))]
    drawn = [row[9:] for row in plain[1:-2]]
    marked = next(index for index, row in enumerate(drawn) if "▲" in row)
    assert marked >= len(drawn) - 3 and drawn[marked].rstrip().endswith("▲")
    assert any(0x2800 < ord(cell) < 0x2900 for cell in drawn[0][:3] + drawn[1][:3])


def test_the_x_axis_counts_steps_time_or_tokens() -> None:
    last = {}
    for x in chart.X_AXES:
        foot = "".join(part for part, _ in chart.draw("loss", [_line()], chart.View(x), 100, 12)[-1])
        last[x] = foot.split()[-1]
    assert last == {"step": "500", "time": "15:00", "tokens": "50k"}


def test_empty_charts_say_what_to_do() -> None:
    def words(line: chart.Line, **options: bool) -> str:
        view = chart.View("tokens")
        return "".join(part for row in chart.draw("loss", [line], view, 80, 9, **options) for part, _ in row)

    bare = chart.Line("sft", palette.Look("▲", "red"), Curve.of([1, 2], [1, 2], [1, 2]))
    assert "press x" in words(bare)
    negative = chart.Line("sft", palette.Look("▲", "red"), Curve.of([1, 2], [-1, -2], [1, 2]), bare.curve)
    assert "press l" in words(negative, log=True)


def test_windows_zoom_and_pan_within_the_whole() -> None:
    assert chart.window(chart.View(zoom=2), 0, 100) == (75, 100)
    assert chart.window(chart.View(zoom=2, offset=0.25), 0, 100) == (50, 75)
    assert chart.window(chart.View(zoom=1, offset=0.9), 0, 100) == (0, 50)


@pytest.mark.parametrize("count", [1, 2, 10, 999, 70_000])
@pytest.mark.parametrize("memory", [2.0, 1000.0])
def test_smoothing_equals_the_recurrence_over_gaps_and_skips_what_is_not_finite(
    count: int, memory: float
) -> None:
    rng = np.random.default_rng(count)
    step = np.cumsum(rng.integers(1, 200, count)).astype(float)
    value = rng.uniform(1.0, 2.0, count)
    value[rng.random(count) < 0.1] = math.nan
    value[rng.random(count) < 0.1] = rng.choice([math.inf, -math.inf])
    total = weight = 0.0
    last, expected = math.nan, []
    for fade, entry in zip(np.exp(-np.diff(step, prepend=step[0]) / memory), value, strict=True):
        total, weight = total * fade, weight * fade
        if math.isfinite(entry):
            total, weight = total + entry, weight + 1.0
            last = total / weight
        expected.append(last if math.isfinite(entry) else math.nan)
    np.testing.assert_allclose(smoothed(step, value, memory), expected, rtol=1e-12)


def _plain(line: chart.Line, view: chart.View, width: int = 100) -> list[str]:
    return ["".join(part for part, _ in row) for row in chart.draw("loss", [line], view, width, 14)]


@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("count", [30, 400])
def test_values_that_are_not_finite_are_a_gap_and_are_counted(memory: int, count: int) -> None:
    value = np.linspace(1.0, 2.0, count)
    value[count // 2 : count // 2 + count // 4] = math.nan
    value[count // 2] = math.inf
    step = np.arange(count)
    line = chart.Line("sft", palette.Look("▲", "red"), Curve.of(step, value, step))
    head, *body = _plain(line, chart.View(memory=memory))
    assert f"{count // 4 - 1} NaN, 1 inf" in head
    # The canvas has 91 columns after the gutter: the gap covers those between 1/2 and 3/4 of the width.
    canvas_rows = [row[9:] for row in body[:-2]]
    empty = [column for column in range(91) if all(row[column] in " ┈" for row in canvas_rows)]
    drawn = [column for column in range(8, 82) if column not in empty]
    assert set(range(52, 66)) <= set(empty)
    assert set(range(10, 38)) <= set(drawn)


def test_a_gap_next_to_values_keeps_them_when_neighbours_are_merged() -> None:
    count = 2 * LONGEST
    value = np.arange(count, dtype=float)
    value[1::2] = math.nan
    long = Curve.of([], [], []).extended(range(count), value.tolist(), range(count))
    assert not np.isnan(long.mean[:-2]).any() and int(long.nans.sum()) == count // 2
    assert int(long.infs.sum()) == 0


def test_history_and_tail_keep_their_counts() -> None:
    history = Curve.of([1, 2, 3], [math.inf, 1.0, math.nan], [1, 2, 3])
    joined = history.followed(Curve.of([3, 4], [math.nan, -math.inf], [3, 4]))
    assert (joined.nans.sum(), joined.infs.sum(), joined.step.tolist()) == (1, 2, [1, 2, 3, 4])


def test_the_legend_gives_the_last_recorded_value_and_the_smoothed_one_beside_it() -> None:
    curve = Curve.of([1, 2, 3], [1.0, 1.0, 5.0], [1, 2, 3])
    look = palette.Look("▲", "red")
    smooth = text.number(float(smoothed(curve.step, curve.mean, -1 / math.log(0.5))[-1]))
    assert smooth != text.number(5.0)
    view = chart.View(memory=2)
    assert _plain(chart.Line("sft", look, curve), view)[0].split() == [
        "loss",
        "▲",
        "sft",
        text.number(5.0),
        f"~{smooth}",
    ]
    reduced = chart.Line("sft", look, curve, newest=7.0)
    assert _plain(reduced, view)[0].split()[3] == text.number(7.0)
    broken = chart.Line("sft", look, curve.extended([4], [math.nan], [4]))
    assert _plain(broken, view)[0].split()[3:] == ["NaN", f"~{smooth}", "1", "NaN"]


def test_the_live_arm_comes_first_in_a_legend_that_is_too_long() -> None:
    curve = Curve.of([1, 2], [1.0, 2.0], [1, 2])
    looks = palette.arms(["base", "sft", "grpo"])
    lines = [chart.Line(name, look, curve, live=name == "grpo") for name, look in looks.items()]
    head = "".join(part for part, _ in chart.draw("loss", lines, chart.View(memory=0), 32, 9)[0])
    assert head.split()[:3] == ["loss", looks["grpo"].mark, "grpo"]
    assert "sft" not in head
