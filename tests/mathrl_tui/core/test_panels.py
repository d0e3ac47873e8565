"""Which charts a run has, how they are grouped, searched and ordered, and the line under them."""

from __future__ import annotations

import pytest

from mathrl_tui.core import panels
from mathrl_tui.core.chart import View
from mathrl_tui.core.chart_choice import ALL, FAVOURITES, ChartChoice
from mathrl_tui.core.fitted import KeyHint, fitted
from mathrl_tui.core.view_line import view_line

ARMS = ("base", "sft", "short", "grpo")
STAGES = {"base": "pretrain", "sft": "sft", "short": "sft", "grpo": "grpo"}


def _sources(found: tuple[panels.Panel, ...], metric: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.title, one.sources) for one in found if one.metric == metric]


def test_each_kind_of_loss_has_a_chart_of_its_own() -> None:
    names = [f"{arm}/train/{name}" for arm in ARMS for name in ("loss", "grad_norm")]
    found = panels.panels(names, ARMS, STAGES)
    assert _sources(found, "train/loss") == [
        ("pretrain loss", ("base",)),
        ("sft loss", ("sft", "short")),
        ("grpo loss", ("grpo",)),
    ]
    assert [title for title, _ in _sources(found, "train/grad_norm")][1] == "sft gradient norm"
    assert len({one.key for one in found}) == len(found)


def test_the_charts_of_losses_are_there_before_their_values() -> None:
    before = panels.panels((), ARMS, STAGES)
    after = panels.panels([f"{arm}/train/loss" for arm in ARMS], ARMS, STAGES)
    assert [one.key for one in before] == [one.key for one in after]


def test_one_kind_of_stage_has_plain_titles() -> None:
    found = panels.panels(["sft/train/loss"], ["sft"], {"sft": "sft"})
    assert _sources(found, "train/loss") == [("loss", ("sft",))]
    assert _sources(panels.panels(["a/train/loss"], ["a"]), "train/loss") == [("loss", ("a",))]


@pytest.mark.parametrize(
    ("lengths", "parts"),
    [
        ({"base": 280, "sft": 60, "grpo": 300}, [("base", "grpo"), ("sft",)]),
        ({"base": 280, "sft": 70, "grpo": 280}, [("base", "sft", "grpo")]),
        ({"base": 8, "sft": 60, "grpo": 300}, [("base",), ("sft",), ("grpo",)]),
        ({"base": 280}, [("base", "sft", "grpo")]),
        ({}, [("base", "sft", "grpo")]),
    ],
)
def test_arms_of_other_lengths_do_not_squeeze_each_other(
    lengths: dict[str, float], parts: list[tuple[str, ...]]
) -> None:
    arms = ("base", "sft", "grpo")
    found = panels.panels([f"{arm}/val/pass_at_1" for arm in arms], arms, STAGES, lengths)
    assert [sources for _, sources in _sources(found, "val/pass_at_1")] == parts
    for part in parts:
        known = [lengths.get(arm, max(lengths.values(), default=1.0)) for arm in part]
        assert max(known) <= panels.SQUEEZE * min(known)


def test_every_metric_of_the_engine_has_a_group() -> None:
    groups = {
        "train/loss": "train",
        "kl/mean": "train",
        "policy/logprob_change": "train",
        "reward/frac_zero_std": "reward",
        "val/pass_at_1": "validation",
        "completions/mean_length": "sampling",
        "sampling/logprob_difference": "sampling",
        "train/tokens_per_second": "time",
        "worker/idle_seconds": "time",
        "utilisation": "GPU",
        "something/new": "train",
    }
    assert {metric: panels.group(metric) for metric in groups} == groups
    assert set(groups.values()) == set(panels.GROUPS)


def test_charts_are_searched_grouped_and_favoured() -> None:
    names = [f"grpo/{name}" for name in ("train/loss", "reward/mean", "kl/mean", "worker/idle_seconds")]
    every = panels.panels(names, ["grpo"], {"grpo": "grpo"})
    choice = ChartChoice()
    assert choice.chosen(every) == every
    assert [one.metric for one in ChartChoice(search="KL parent").chosen(every)] == ["kl/mean"]
    assert ChartChoice(search="nothing like it").chosen(every) == ()
    last, first = every[-1], every[0]
    liked = choice.toggled(last).toggled(first)
    assert liked.chosen(every)[:2] == (last, first)
    assert set(liked.chosen(every)[2:]) == set(every) - {last, first}
    assert liked.toggled(last).chosen(every) == every
    seen = []
    for _ in range(9):
        seen.append(liked.group)
        liked = liked.next_group(every)
    assert seen[: seen.index(ALL, 1)] == [
        ALL,
        FAVOURITES,
        "train",
        "reward",
        "validation",
        "sampling",
        "time",
    ]
    only = ChartChoice(FAVOURITES, "", (last.key,))
    assert only.chosen(every) == (last,)


def _words(width: int, search: str = "") -> str:
    row = view_line(View(), ChartChoice(search=search), "1/3", "this run", width)
    return "".join(part for part, _ in row)


@pytest.mark.parametrize("width", [30, 60, 70, 80, 83, 100, 147, 200])
def test_the_line_under_the_charts_fits_any_width(width: int) -> None:
    assert len(_words(width)) <= width
    if width >= 70:
        for key in ("[ ]", " x ", "+ -", "PgDn 1/3", " m ", " g ", " / "):
            assert key in _words(width)
    assert "0.8" in _words(width)


def test_parts_become_short_before_they_are_left_out() -> None:
    parts = [KeyHint("a", ("long words", "short")), KeyHint("b", ("other words", "brief"))]
    shown = ["".join(word for word, _ in fitted(parts, width)).split() for width in (30, 24, 18, 9)]
    assert shown == [
        ["a", "long", "words", "b", "other", "words"],
        ["a", "long", "words", "b", "brief"],
        ["a", "short", "b", "brief"],
        ["a", "short"],
    ]
