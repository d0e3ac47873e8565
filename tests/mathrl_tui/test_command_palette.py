"""The command palette on every screen: it shows keys and sentences character for character."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from textual.command import CommandPalette
from textual.content import Content

from mathrl_tui import actions, command_palette
from mathrl_tui.widgets.literal import LiteralMatcher, literal
from tests.support.console_pilot import LARGE, console, opened, sees, until
from tests.support.fabricated import finished_run

RUN = "demo-s0-finished"


def test_literal_text_is_shown_as_it_is() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        words = "".join(rng.choices("[]/\\ abR=@#1$\"'(){}-\n:^", k=rng.randint(1, 9)))
        assert Content.from_markup(literal(words)).plain == words


def test_matches_are_highlighted_at_their_own_characters() -> None:
    shown = LiteralMatcher("stop").highlight("[s] [/] stop")
    assert shown.plain == "[s] [/] stop"
    assert sorted(place for span in shown.spans for place in range(span.start, span.end)) == [8, 9, 10, 11]


@pytest.mark.parametrize("place", range(1, len(actions.SCREENS) + 1))
async def test_the_palette_opens_on_every_screen_and_shows_each_key(tmp_path: Path, place: int) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, (120, 100)) as (app, pilot):
        await opened(pilot, str(place), RUN)
        await until(
            pilot, lambda: getattr(app.screen, "NAME", "") == actions.SCREENS[place - 1], "the screen"
        )
        await pilot.press("ctrl+p")
        shown = (*actions.actions(actions.SCREENS[place - 1]), *actions.actions(actions.APP))
        await sees(pilot, *(f"[{actions.shown_keys(action)}]" for action in shown[:12]))
        await pilot.press(*"find/")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, CommandPalette), "the palette closed")


@pytest.mark.parametrize(
    ("key", "screen"), [("n", "NewRun"), ("K", "Confirm"), ("question_mark", "HelpScreen")]
)
async def test_the_palette_opens_over_every_dialog(tmp_path: Path, key: str, screen: str) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, LARGE) as (app, pilot):
        await sees(pilot, RUN)
        await pilot.press(key)
        await until(pilot, lambda: type(app.screen).__name__ == screen, screen)
        await pilot.press("ctrl+p")
        await sees(pilot, "Close the console; runs keep running  [q]")
        await pilot.press("escape")
        await until(pilot, lambda: type(app.screen).__name__ == screen, f"{screen} again")


async def test_labels_and_sentences_are_not_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tuple(
        replace(action, label=f"[/] {action.label}", help="an [s] [/b] \\[q") for action in actions.ACTIONS
    )
    monkeypatch.setattr(command_palette.actions, "ACTIONS", odd)
    async with console(tmp_path, LARGE) as (_, pilot):
        await pilot.press("ctrl+p")
        await sees(pilot, "[/] Open", "an [s] [/b] \\[q  [/]")
        await pilot.press(*"logs")
        await sees(pilot, "[/] Logs: an [s] [/b] \\[q")


def test_tooltips_of_the_footer_are_not_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tuple(replace(action, help="press [/] or [s]") for action in actions.ACTIONS)
    monkeypatch.setattr(actions, "ACTIONS", odd)
    for where in (*actions.SCREENS, actions.APP):
        for binding in actions.bindings(where):
            assert not isinstance(binding, tuple)
            assert Content.from_markup(binding.tooltip).plain == "press [/] or [s]"
