"""Results on the screen: each measure in its unit and on its axis, the watch's flags, samples and prompt forms."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from mathrl_tui.core import forest_plot as forest
from mathrl_tui.core import intervals, palette, rates, text, watch
from mathrl_tui.core.intervals import Scale
from mathrl_tui.widgets.keyed_table import KeyedTable
from store.comparison import Comparison
from store.query import Store
from store.results import Measure
from store.verdict import regression_watch
from tests.support.console_pilot import LARGE, SMALL, console, opened, plain, sees, until
from tests.support.fabricated import TASK, finished_run
from tests.support.fabricated_results import ARC, MMLU, NATS, RUN, WATCHED, results_run


def _comparison(low: float, high: float, measure: Measure = "accuracy", task: str = "t") -> Comparison:
    middle = (low + high) / 2
    return Comparison(
        task, 900, "a", "b", 0.5, 0.5 + middle, middle, low, high, 0.95, 0.5, 0.5, 0.1, 1, 2, measure
    )


def test_forest_plots_share_a_scale_around_zero() -> None:
    rows = [_comparison(-0.05, 0.02), _comparison(0.31, 0.42)]
    scale = intervals.difference_scale(rows)
    assert scale.start <= -0.05 and scale.end >= 0.42 and scale.end - scale.start <= 0.6
    drawn = "".join(
        part for part, _ in intervals.interval(0.31, 0.36, 0.42, scale, palette.Look("▲", "green"), 51)
    )
    zero, left, point, right = (drawn.index(mark) for mark in "┊├▲┤")
    assert zero < left < point < right
    assert intervals.difference_header(scale, 51)[zero] == "0"


@pytest.mark.parametrize(
    ("low", "high", "measure", "mark", "colour"),
    [
        (0.01, 0.03, "accuracy", "▲", palette.GOOD),
        (-0.03, -0.01, "accuracy", "▼", palette.BAD),
        (0.01, 0.03, "perplexity", "▼", palette.BAD),  # a higher perplexity is worse
        (-0.03, -0.01, "perplexity", "▲", palette.GOOD),
        (-0.01, 0.03, "perplexity", "○", palette.INK),
    ],
)
def test_colour_and_mark_tell_who_gains_not_the_sign(
    low: float, high: float, measure: Measure, mark: str, colour: str
) -> None:
    assert forest.look(_comparison(low, high, measure)) == palette.Look(mark, colour)


def test_differences_are_told_in_the_unit_of_their_measure() -> None:
    assert forest.words(_comparison(-0.01, 0.03)) == "+1.0 [−1.0, +3.0]"
    assert forest.words(_comparison(-0.01, 0.03, "perplexity")) == "+1.0 % [−1.0, +3.0]"
    assert "10.0 points" in forest.details(_comparison(0.0, 0.02))[-1]
    assert forest.details(_comparison(0.0, 0.02, "perplexity"))[-1].endswith("10.0 %")


def test_perplexities_come_last_and_apart() -> None:
    rows = [
        _comparison(0, 0.1, "perplexity", "w"),
        _comparison(0, 0.1, task="x"),
        _comparison(0, 0.2, task="y"),
    ]
    assert [row.task for row in forest.ordered(rows)] == ["x", "y", "w"]
    assert {kind: len(group) for kind, group in intervals.by_measure(rows).items()} == {
        "accuracy": 2,
        "perplexity": 1,
    }


@pytest.mark.parametrize(("margin", "place", "mark"), [(-0.3, 0, "╎"), (0.2, 8, "╎"), (-0.05, 4, "┼")])
def test_a_margin_is_drawn_beside_or_across_the_interval(margin: float, place: int, mark: str) -> None:
    """Eleven cells from -0.3 to 0.3125 put an end of the interval at cell 3 and 7, its middle at 5."""
    scale = Scale(-0.3, 0.3125)
    spans = intervals.interval(-0.1, 0.0, 0.1, scale, palette.Look("●", "red"), 11, margin)
    picture = "".join(part for part, _ in spans)
    assert picture[place] == mark and picture[5] == "●" and picture[3] == "├" and picture[7] == "┤"


def test_flags_say_what_the_interval_says_of_the_margin() -> None:
    """Losses against a margin of 2 points: the ends of the intervals decide, whatever the measure's direction."""
    rows = [
        _comparison(-0.01, 0.02, task="kept"),
        _comparison(-0.09, -0.03, task="lost"),
        _comparison(-0.05, 0.01, task="open"),
        _comparison(0.03, 0.05, "perplexity", "worse"),
        _comparison(-0.05, 0.01, "perplexity", "better"),
    ]
    found = watch.flags(regression_watch(rows, 0.02), rows)
    assert [flag.look.mark for flag in found] == ["✓", "✗", "?", "✗", "✓"]
    assert [flag.limit for flag in found] == [-0.02, -0.02, -0.02, 0.02, 0.02]
    said = [watch.sentence(flag) for flag in found]
    assert "a loss is 1.0 points at most" in said[0]
    assert "3.0 points at least" in said[1]
    assert "up to 5.0 points" in said[2]
    assert "3.0 % at least" in said[3] and "margin of 2.0 %" in said[3]
    assert "lost lost of b, worse of b; 1 not settled, 2 kept" in watch.summary(found)


def test_a_handful_of_documents_keeps_nothing() -> None:
    """Three documents that do not differ have a bootstrap interval of no width, which proves nothing."""
    rows = [replace(_comparison(0.0, 0.0, "perplexity", f"of {count}"), n=count) for count in (3, 19, 20)]
    found = watch.flags(regression_watch(rows, 0.02), rows)
    assert [flag.look.mark for flag in found] == ["?", "?", "✓"]
    assert watch.sentence(found[0]).endswith("3 questions are too few, 20 are needed")
    (lost,) = regression_watch([replace(_comparison(-0.9, -0.5), n=8)], 0.02)
    assert lost.standing == "lost"


def test_prompt_forms_are_told_apart_only_where_there_are_several() -> None:
    tasks = ["gsm8k", "gsm8k/plain/8-shot", "mmlu", "gsm8k/math_verify"]
    assert rates.forms(tasks, "chat") == {
        "gsm8k": "chat",
        "gsm8k/plain/8-shot": "plain, 8-shot",
        "mmlu": "",
        "gsm8k/math_verify": "",
    }
    assert rates.stem("gsm8k/plain/8-shot") == "gsm8k" and rates.stem("gsm8k/lm-eval") == "gsm8k/lm-eval"


def test_long_names_keep_both_ends() -> None:
    assert text.ends("word-problems/chat/8-shot", 13) == "word-p…8-shot"
    assert text.ends("mmlu", 13) == "mmlu"


async def test_evaluation_shows_samples_forms_and_perplexity_in_their_units(tmp_path: Path) -> None:
    results_run(tmp_path)
    async with console(tmp_path, LARGE) as (app, pilot):
        await opened(pilot, "3", RUN)
        shown = await sees(pilot, "pass@k", "majority", "chat, 8-shot", "perplexity")
        lines = shown.splitlines()
        sampled = next(line for line in lines if "▲ sft" in line and " plain " in line)
        # 14 questions all right and 10 with one sample of four right, of 40
        assert f"{(14 + 10 / 4) / 40:.1%}".replace("%", " %") in sampled
        assert f"@4  {(14 + 10) / 40:.1%}".replace("%", " %") in sampled
        for row in Store(tmp_path).evaluations(RUN):
            if row.task == TASK:
                line = next(line for line in lines if f" {row.arm} " in line and " plain " in line)
                assert f"{100 * row.low:.1f} – {100 * row.high:.1f}" in line
        wikitext = next(line for line in lines if "wikitext" in line and "▲ sft" in line)
        assert "ppl" in wikitext and "%" not in wikitext
        axis = lines.index(next(line for line in lines if "lower is better" in " ".join(line.split())))
        assert axis < lines.index(wikitext)
        app.screen.query_one(KeyedTable).choose("wikitext/sft")
        words = await sees(pilot, "documents of 500 words on average")
        assert "lower is better" in words
        await pilot.press("enter")
        await sees(pilot, "sft  wikitext  all: 24 of 24")


async def test_rate_interval_and_questions_stay_in_sight_at_80_columns(tmp_path: Path) -> None:
    run = results_run(tmp_path)
    one = run.example("sft+grpo-2", 0, True)
    run.write(*(replace(one, task="competition-mathematics/plain/8-shot", ex_id=f"{n}") for n in range(1319)))
    async with console(tmp_path, (80, 50)) as (_, pilot):
        await opened(pilot, "3", RUN)
        shown = await sees(pilot, "rate", "95 % interval", " n ", "wikitext")
        # Wilson's interval where all n are right begins at n / (n + z²)
        least = 100 * 1319 / (1319 + 1.96**2)
        (long,) = (line for line in shown.splitlines() if "1,319" in line)
        assert "matics" in long and "sft+grpo-2" in long and f"100.0 %   {least:.1f} – 100.0   1,319" in long
        (sampled,) = (line for line in shown.splitlines() if " plain " in line and "■ grpo" in line)
        assert "56.2 %" in sampled and "42.5 – 69.1" in sampled and sampled.split()[-1] == "40"
        (document,) = (line for line in shown.splitlines() if "wikitext" in line and "■ grpo" in line)
        assert "ppl 12.06" in document and document.split()[-1] == "24"


async def test_what_does_not_apply_to_a_task_is_left_open(tmp_path: Path) -> None:
    results_run(tmp_path)
    async with console(tmp_path, LARGE) as (app, pilot):
        await opened(pilot, "3", RUN)
        shown = await sees(pilot, "window", "prompts cut", "wikitext")
        (choices,) = (line for line in shown.splitlines() if "mmlu" in line and "■ grpo" in line)
        # pass@k, majority, cut off, no answer, tokens: nothing was generated; then step, window, 3 of 200 prompts
        assert choices.split()[-9:] == ["–", "–", "–", "–", "–", "50", "2,048", "1.5", "%"]
        (document,) = (line for line in shown.splitlines() if "wikitext" in line and "■ grpo" in line)
        assert document.split()[-8:] == ["–", "–", "–", "–", "–", "50", "2,048", "–"]
        app.screen.query_one(KeyedTable).choose("mmlu/grpo")
        await sees(pilot, "200 questions, window 2,048 tokens, 3 prompts cut at their start")
        await pilot.press("enter")
        await sees(pilot, "Right choice", "chosen A", "prompt cut by 9 tokens at its start")


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_comparison_keeps_perplexity_off_the_axis_of_points(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    results_run(tmp_path)
    async with console(tmp_path, size) as (app, pilot):
        await opened(pilot, "4", RUN)
        await sees(pilot, "points [95 %]", "sft − base")
        app.screen.query_one(KeyedTable).choose("wikitext/base/sft")
        shown = await sees(pilot, "% of ppl [95 %]", "lower is better", "wikitext")
        higher = 100 * (math.exp(NATS["sft"] - NATS["base"]) - 1)  # by hand, near the ratio of whole corpora
        line = next(one for one in shown.splitlines() if "wikitext" in one and "sft − base" in one)
        assert f"+{higher:.1f} %" in line and "▼" in line
        await sees(pilot, "Perplexity of SFT on wikitext above that of base")
        await pilot.press("enter")
        await sees(pilot, "sft against base", "all: 24 of 24", "log-likelihood")
        assert "wrong" not in plain(app).splitlines()[3]


async def test_the_flips_are_read_either_way(tmp_path: Path) -> None:
    results_run(tmp_path)
    async with console(tmp_path, LARGE) as (app, pilot):
        await opened(pilot, "4", RUN)
        await sees(pilot, "mmlu")
        app.screen.query_one(KeyedTable).choose("mmlu/base/grpo")
        lost, gained = MMLU["grpo"]
        await sees(pilot, f"grpo alone right on {gained}, base alone right on {lost}")
        await pilot.press("b")
        await sees(pilot, "grpo against base", f"only here right: {gained} of {WATCHED}")
        await pilot.press("4")
        await sees(pilot, "alone right on")
        await pilot.press("a")
        await sees(pilot, f"only there right: {lost} of {WATCHED}")


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_the_watch_is_on_screen_with_margin_and_verdict(tmp_path: Path, size: tuple[int, int]) -> None:
    results_run(tmp_path)
    async with console(tmp_path, size) as (app, pilot):
        await opened(pilot, "7", RUN)
        shown = await sees(pilot, "✗ lost", "✓ kept", "? unclear", "╎", "6 flags against base")
        lost, gained = MMLU["grpo"]
        line = next(one for one in shown.splitlines() if "mmlu" in one and "grpo" in one)
        assert f"−{100 * (lost - gained) / WATCHED:.1f}" in line and "✗" in line
        lost, gained = ARC["sft"]
        line = next(one for one in shown.splitlines() if one.split()[:2] == ["arc", "sft"])
        assert f"−{100 * (lost - gained) / WATCHED:.1f}" in line and "? unclear" in line
        app.screen.query_one(KeyedTable).choose("mmlu/grpo")
        await sees(pilot, "Grpo has lost on mmlu", "margin of 2.0")
        await pilot.press("y")
        await until(pilot, lambda: "| mmlu | grpo | lost |" in app.clipboard, "the table")


async def test_a_run_without_a_suite_says_what_the_watch_needs(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, SMALL) as (_, pilot):
        await opened(pilot, "7", "demo-s0-finished")
        await sees(pilot, "Nothing is watched", "eval.suite")


async def test_results_are_exported_from_the_console(tmp_path: Path) -> None:
    results_run(tmp_path)
    async with console(tmp_path, LARGE) as (_, pilot):
        await opened(pilot, "3", RUN)
        await pilot.press("e")
        await sees(pilot, "results written to")
    folder = tmp_path / "export" / RUN
    assert "wikitext" in (folder / "comparisons.md").read_text()
    assert "lost" in (folder / "watch.csv").read_text()
