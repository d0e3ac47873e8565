"""Alarms of live runs are seen on every screen, listed, acknowledged, and heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathrl_tui import actions
from mathrl_tui.core import alarm_row
from mathrl_tui.core.alarm_watch import AlarmWatch, RunAlarm
from store.events import AlarmRaised
from store.query import Store
from tests.mathrl_tui.test_app_in_terminal import terminal
from tests.support.console_pilot import LARGE, console, plain, sees, until
from tests.support.fabricated import FabricatedRun, finished_run, live_run

WORDS = "not-finite: sft/train/loss is nan at step 12 (the value is not a finite number); no checkpoint yet"


def raise_alarm(run: FabricatedRun, name: str = "not-finite", words: str = WORDS) -> None:
    run.passes(1.0)
    run.write(AlarmRaised(name, "sft/train/loss", "nan").event(words, "", "sft", 12, run.now))


def test_the_watch_follows_live_runs_and_a_new_start_clears_the_alarms(tmp_path: Path) -> None:
    finished = finished_run(tmp_path)
    raise_alarm(finished)
    run = live_run(tmp_path)
    raise_alarm(run)
    watch = AlarmWatch(Store(tmp_path))
    (first,) = watch.poll(run.now)
    assert (first.run_id, first.alarm, first.since, first.words) == (
        "demo-s1-live",
        "not-finite",
        run.now,
        WORDS,
    )
    raise_alarm(run, "explosion", "explosion: …")
    other = live_run(tmp_path, "demo-s2-live")
    raise_alarm(other)
    assert [(one.run_id[:7], one.alarm) for one in watch.poll(run.now)] == [
        ("demo-s1", "not-finite"),
        ("demo-s1", "explosion"),
        ("demo-s2", "not-finite"),
    ]
    run.write(run.event("state", state="failed", reason="why"))
    run.unlock()
    assert len(watch.poll(run.now)) == 3
    run.write(run.event("state", state="queued", reason="starts"))
    assert [one.run_id for one in watch.poll(run.now)] == ["demo-s2-live"]


def test_silence_is_an_alarm_while_a_supervisor_lives(tmp_path: Path) -> None:
    run = live_run(tmp_path)
    watch = AlarmWatch(Store(tmp_path))
    assert watch.poll(run.now + 60) == ()
    (alarm,) = watch.poll(run.now + 3600)
    assert alarm.alarm == "no-progress" and "sft silent for" in alarm.words
    assert alarm.since == pytest.approx(run.now)
    run.unlock()
    assert watch.poll(run.now + 3600) == ()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_line_fits_and_names_run_time_and_words(width: int) -> None:
    alarms = [RunAlarm("a" * 60, "not-finite", 1.0, "b" * 300), RunAlarm("demo-s1", "explosion", 2.0, WORDS)]
    shown = "".join(words for words, _ in alarm_row.row(alarms, width))
    assert len(shown) <= width
    assert "demo-s1 since 1970-01-01" in shown and "not-finite: s" in shown and "1 more · A lists" in shown
    assert alarm_row.row([], width) == []


async def test_the_newest_alarm_is_on_every_screen_until_it_is_acknowledged(tmp_path: Path) -> None:
    run = live_run(tmp_path)
    raise_alarm(run)
    async with console(tmp_path, LARGE) as (app, pilot):
        for name in actions.SCREENS:
            app.action_go(name)
            await sees(pilot, "demo-s1-live since", "sft/train/loss is nan at step 12", "A lists")
        await pilot.press("A")
        await sees(pilot, "Alarms        a acknowledges", "not-finite", "new", "no checkpoint yet")
        await pilot.press("a")
        await sees(pilot, "acknowledged  demo-s1-live")
        await pilot.press("escape")
        await until(pilot, lambda: "A lists" not in plain(app), "no line of alarms")
        raise_alarm(run, "explosion", "explosion: sft/train/loss is 900")
        await sees(pilot, "explosion: sft/train/loss is 900", "A lists")


def test_an_alarm_rings_the_bell_of_a_terminal(tmp_path: Path) -> None:
    run = live_run(tmp_path)
    raise_alarm(run)
    with terminal(tmp_path, 120, 40) as shown:
        shown.sees("A lists")
        raise_alarm(run, "explosion", "explosion: sft/train/loss is 900")
        shown.sees("\a")
        shown.sees("loss is 900")
        shown.types(b"6")
        shown.types(b"A")
        shown.sees("acknowledges all")
