"""The console without a screen: the fold of a run's records, filters, logs, drafts, words, the line of screens."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from mathrl_tui.core import (
    completions,
    header,
    logs,
    palette,
    panels,
    run_form,
    side_panels,
    text,
)
from mathrl_tui.core.completions import CompletionChoice
from mathrl_tui.core.curve import Curve
from mathrl_tui.core.run import RunModel
from store.records import Event, Scalar
from store.run_config import RunConfig
from tests.support.fabricated import QUESTIONS, RIGHT, FabricatedRun, config
from tests.support.places import ROOT


def test_the_core_imports_no_textual() -> None:
    script = (
        "import pkgutil, importlib, sys, mathrl_tui.core as core\n"
        "for module in pkgutil.iter_modules(core.__path__, 'mathrl_tui.core.'): importlib.import_module(module.name)\n"
        "print('textual' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def _stage(status: str, ts: float, stage: str = "sft", arm: str = "sft") -> Event:
    return Event("stage", "", stage, arm, payload={"status": status}, ts=ts)


def test_what_comes_twice_changes_nothing() -> None:
    records = [
        Event("state", payload={"state": "running"}, ts=1.0),
        _stage("started", 2.0),
        Scalar("sft/train/loss", 1, 0.5, 3.0),
        Event("log", "hello", ts=4.0),
        _stage("finished", 5.0),
    ]
    model = RunModel("run", RunConfig.of(config("run", 0.0)))
    model.set_curve("sft/train/loss", Curve.of([], [], []))
    model.apply(records)
    once = model.snapshot(alive=True)
    model.apply(records[1:])
    twice = model.snapshot(alive=True)
    assert once.board == twice.board and once.log == twice.log
    assert len(twice.curves["sft/train/loss"]) == 1
    assert twice.latest["sft/train/loss"].value == 0.5


def test_history_that_is_read_again_keeps_what_the_tail_has_brought() -> None:
    model = RunModel("run", RunConfig.of(config("run", 0.0)))
    model.set_curve("m", Curve.of([1, 2], [0.1, 0.2], [math.nan, math.nan]))
    model.apply([Scalar("m", 3, 0.3, 30.0)])
    assert model.has_curve("m") and not model.has_curve("m", timed=True)
    model.set_curve("m", Curve.of([1, 2], [0.1, 0.2], [10.0, 20.0]))
    assert model.has_curve("m", timed=True)
    assert model.curve("m").ts.tolist() == [10.0, 20.0, 30.0]


def test_a_live_state_without_a_supervisor_is_an_interruption() -> None:
    model = RunModel("run", RunConfig.of(config("run", 0.0)))
    model.apply([Event("state", payload={"state": "running"}, ts=1.0), _stage("started", 2.0)])
    assert model.snapshot(alive=True).state == "running"
    orphan = model.snapshot(alive=False)
    assert orphan.state == "interrupted" and "R" in orphan.reason
    assert orphan.board[2].status == "interrupted"


def test_panels_join_the_arms_of_a_metric_and_are_there_from_the_start() -> None:
    found = panels.panels(
        ["sft/train/loss", "grpo/train/loss", "gpu/0/utilisation", "grpo/zzz"], ["sft", "grpo"]
    )
    assert [panel.title for panel in found[:3]] == ["loss", "reward", "accuracy (validation)"]
    assert found[0].sources == ("sft", "grpo") and found[1].sources == ()
    assert found[-1].metric == "zzz" and found[2].percent and not found[0].percent


def _choice_pairs(tmp_path: Path, **choice: str) -> list[str]:
    run = FabricatedRun(tmp_path, "demo")
    mine, theirs = (
        [run.example(arm, i, i < RIGHT[arm]) for i in range(QUESTIONS)] for arm in ("grpo", "sft")
    )
    chosen = CompletionChoice("grpo", "word-problems", "sft", **choice)
    return [pair.mine.ex_id for pair in completions.pairs(mine, theirs, chosen)]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("wrong", range(23, 40)),
        ("cut off", range(39, 40)),
        ("flips", range(23, 24)),
        ("only there right", range(23, 24)),
        ("only here right", range(0)),
        ("no answer", range(39, 40)),  # the one that was cut off holds none
    ],
)
def test_filters_list_what_they_say(tmp_path: Path, shown: str, expected: range) -> None:
    assert _choice_pairs(tmp_path, shown=shown) == [f"test-{index}" for index in expected]


def test_a_search_looks_into_question_answer_and_id(tmp_path: Path) -> None:
    assert _choice_pairs(tmp_path, search="OTTER") == ["test-5"]


def test_a_choice_settles_on_what_the_run_has() -> None:
    tasks = {"base": ["a", "b"], "sft": ["b"]}
    assert CompletionChoice("grpo", "b").nearest(tasks) == CompletionChoice("base", "b")
    assert CompletionChoice("base", "b", "", "flips").nearest(tasks).other == "sft"
    assert CompletionChoice("base", "a", "sft", "flips").nearest(tasks) == CompletionChoice("base", "a")


def test_log_files_are_followed_across_rotation_and_half_lines(tmp_path: Path) -> None:
    path = tmp_path / "trainer.log"
    log = logs.LogFile(path)
    assert not log.poll()
    path.write_bytes(b"one\ntwo\nhal")
    assert log.poll() and log.lines == ["one", "two"]
    with path.open("ab") as file:
        file.write(b"f\n 10%\r 99%\n\xff\n")
    assert log.poll() and log.lines == ["one", "two", "half", " 99%", "�"]
    assert not log.poll()
    path.write_bytes(b"new\n")
    assert log.poll() and log.lines == ["new"]


@pytest.mark.parametrize(("words", "seeds"), [("0", (0,)), ("0 1,2", (0, 1, 2)), ("3-5 4", (3, 4, 5))])
def test_seeds_are_read_as_people_write_them(words: str, seeds: tuple[int, ...]) -> None:
    assert run_form.seeds_of(words) == seeds


@pytest.mark.parametrize(
    ("profile", "chosen", "seeds", "overrides", "name", "said"),
    [
        ("demo", ["sft"], "x", "", "", "seeds: x"),
        ("demo", ["sft"], "²", "", "", "seeds: ²"),
        ("demo", ["sft"], "0-", "", "", "seeds: 0-"),
        ("demo", ["sft"], "9" * 5000, "", "", "seeds: 999"),
        ("demo", ["sft"], "", "", "", "seeds: give at least one"),
        ("demo", ["sft"], "0", "sft.learning_rte=1", "", "did you mean sft.learning_rate?"),
        ("demo", ["sft"], "0", "sft.steps", "", "KEY=VALUE"),
        ("demo", ["sft"], "0", "'open", "", "overrides: no closing quotation"),
        ("demo", [], "0", "", "", "no stage given"),
        ("dmo", ["sft"], "0", "", "", "did you mean demo?"),
        ("demo", ["sft"], "0", "", "../out", "name: ../out: use letters, digits"),
        ("demo", ["sft"], "0", "", "two words", "name: two words"),
    ],
)
def test_a_faulty_draft_is_told_in_one_line(
    profile: str, chosen: list[str], seeds: str, overrides: str, name: str, said: str
) -> None:
    with pytest.raises(run_form.FormError) as error:
        run_form.checked(profile, chosen, seeds, overrides, name)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_good_draft_has_its_plan() -> None:
    good = run_form.checked("demo", ["data", "traces", "preprocess", "sft"], "0-1", "sft.steps=3")
    assert good.seeds == (0, 1) and good.profile.sft.steps == 3
    assert good.steps == ("data", "traces", "base", "preprocess", "sft")


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "–"), (42, "0:42"), (185, "3:05"), (4325, "1:12:05"), (100_000, "1d 03:46")]
)
def test_durations(seconds: float | None, words: str) -> None:
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.42313, "0.4231"),
        (12.3456, "12.35"),
        (1.5e-6, "1.5e-06"),
        (48_200.0, "48.2k"),
        (3.0, "3"),
        (2.5e9, "2.5G"),
    ],
)
def test_numbers(value: float, words: str) -> None:
    assert text.number(value) == words


SCREENS = ("runs", "run", "evaluation", "comparison", "samples", "logs", "watch", "config")


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (
            110,
            " mathrl   1 Runs  2 Run  3 Evaluation  4 Comparison  5 Samples  6 Logs  7 Watch  8 Config    /home",
        ),
        (
            95,
            " mathrl   1 Runs  2 Run  3 Evaluation  4 Comparison  5 Samples  6 Logs  7 Watch  8 Config ",
        ),
        (80, " 1 Runs 2 Run 3 Evaluation 4 Comparison 5 Samples 6 Logs 7 Watch 8 Config"),
        (60, " 1 2 3 4 5 6 7 Watch 8"),
    ],
)
def test_the_line_of_screens_holds_whole_words_at_any_width(width: int, line: str) -> None:
    assert "".join(words for words, _ in header.header(SCREENS, "watch", width, "", "/home")) == line


def test_trouble_takes_the_room_that_it_needs() -> None:
    wide = "".join(words for words, _ in header.header(SCREENS, "watch", 200, "the disk is full", "/home"))
    assert wide.endswith("8 Config   ! the disk is full")
    narrow = "".join(words for words, _ in header.header(SCREENS, "watch", 80, "the disk is full", "/home"))
    assert narrow == " mathrl   7 Watch  ! the disk is full"


def test_bars_fill_to_an_eighth_of_a_cell() -> None:
    assert text.bar(0.5, 4) == "██──" and text.bar(1.0, 4) == "████" and text.bar(None, 3) == "───"
    assert text.bar(0.5 + 1 / 64, 8) == "████▏───"


def test_the_live_arm_comes_first_in_last_values() -> None:
    model = RunModel("run", RunConfig.of(config("run", 0.0)))
    arms = model.snapshot(alive=True).arms
    scalars = [Scalar(f"{arm}/train/loss", 1, 1.0, ts=1.0) for arm in arms]
    live = arms[-1]
    stage = next(step for step in model.snapshot(alive=True).board if step.arm == live)
    started = _stage("started", 2.0, stage.stage, live)
    model.apply([Event("run", "", payload={"status": "running"}, ts=0.5), *scalars, started])
    run = model.snapshot(alive=True)
    assert run.live_arm == live
    # Room for one arm.
    head = side_panels.values(run, palette.arms(arms), 30, 9)[1]
    assert live[:6] in head[1][0] and len(head) == 2
    assert model.snapshot(alive=False).live_arm == ""
