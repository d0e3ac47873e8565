"""What readers are told: runs' states, series, evaluations and examples, against arithmetic done here."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from store import query
from store.home import RunFolder, create_run
from store.journal import START, JournalWriter
from store.live import LiveTail
from store.locks import locked
from store.query import Store, UnknownRun
from store.records import Event, Example, Record, RunRow, Scalar

PLAN = [{"stage": "data", "arm": ""}, {"stage": "sft", "arm": "sft"}, {"stage": "eval", "arm": ""}]


def registered(name: str = "demo", ts: float = 1000.0) -> RunRow:
    return RunRow(name, "demo", 3, {"plan": PLAN, "profile": {"name": "demo"}}, ts=ts)


def state(value: str, reason: str = "", ts: float = 1001.0) -> Event:
    return Event("state", payload={"state": value, "reason": reason}, ts=ts)


def stage(name: str, arm: str, status: str, ts: float = 1002.0) -> Event:
    return Event("stage", stage=name, arm=arm, payload={"status": status}, ts=ts)


def journaled(home: Path, run_id: str, records: list[Record]) -> None:
    (home / "runs" / run_id).mkdir(parents=True, exist_ok=True)
    with JournalWriter(RunFolder(home, run_id).journal) as writer:
        writer.append(records)


@contextmanager
def supervised(home: Path, run_id: str) -> Iterator[subprocess.Popen[str]]:
    """A living process that holds the run's lock, as a supervisor does."""
    hold = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print(flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", hold, home / "runs" / run_id / "run.lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.communicate()


def test_a_run_is_live_exactly_while_its_supervisor_is(tmp_path: Path) -> None:
    journaled(
        tmp_path,
        "r",
        [registered(), state("running"), stage("data", "", "finished"), stage("sft", "sft", "started")],
    )
    store = Store(tmp_path)
    with supervised(tmp_path, "r") as supervisor:
        store.ingest()
        (run,) = store.runs()
        assert (run.state, run.ended) == ("running", None)
        assert [(each.stage, each.status) for each in run.stages] == [
            ("data", "finished"),
            ("sft", "started"),
            ("eval", "pending"),
        ]
        supervisor.kill()
        supervisor.wait()
        (run,) = store.runs()
    assert (run.state, run.reason, run.ended) == ("interrupted", "the supervisor is gone", 1002.0)
    assert [each.status for each in run.stages] == ["finished", "interrupted", "pending"]


def test_the_last_words_of_a_run_count_before_they_are_ingested(tmp_path: Path) -> None:
    journaled(tmp_path, "r", [registered(), state("running"), Scalar("sft/train/loss", 1, 0.5)])
    store = Store(tmp_path)
    store.ingest()
    journaled(
        tmp_path, "r", [Scalar("sft/train/loss", 2, 0.25), state("done", "all stages are done", ts=1009.0)]
    )
    (run,) = store.runs()
    assert (run.state, run.reason, run.ended) == ("done", "all stages are done", 1009.0)
    status = store.status("r")
    assert (status.state, status.metrics) == ("done", {"sft/train/loss": 0.25})


def test_a_command_that_could_not_wait_for_an_ingest_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journaled(tmp_path, "r", [registered()])
    monkeypatch.setattr(query, "CATCH_UP_SECONDS", 0.1)
    store = Store(tmp_path)
    with locked(tmp_path / "store.lock", patience=0.0):
        assert store.ingest() == 0
        assert store.problem == ""  # the next tick will do
        assert store.catch_up() == 0
    lock = tmp_path / "store.lock"
    assert f"the newest rows are left out: {lock}: held by PID {os.getpid()}" in caplog.text
    assert store.catch_up() == 1
    assert store.problem == ""


def test_a_run_whose_supervisor_never_began_is_listed(tmp_path: Path) -> None:
    folder = create_run(tmp_path, "fresh", 7)
    folder.config.write_text(
        json.dumps(
            {
                "run": folder.run_id,
                "name": "fresh",
                "profile": {"name": "demo"},
                "seed": 7,
                "plan": PLAN,
                "created": 5.0,
            }
        )
    )
    (run,) = Store(tmp_path).runs()
    assert (run.run, run.state, run.profile, run.seed, run.started) == (
        folder.run_id,
        "interrupted",
        "demo",
        7,
        5.0,
    )
    assert Store(tmp_path).config(folder.run_id).table()["plan"] == PLAN


def test_status_tells_place_metrics_and_processes(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    progress = {"done": 7, "total": 40, "unit": "steps", "eta_seconds": 33.0}
    journaled(
        tmp_path,
        "r",
        [
            registered(),
            state("running"),
            stage("sft", "sft", "started"),
            Event("progress", stage="sft", arm="sft", payload={"done": 6, "total": 40}),
            Event("progress", stage="sft", arm="sft", payload=progress),
            Event("process", payload={"role": "trainer", "pid": os.getpid(), "alive": True}),
            Event("process", payload={"role": "worker", "pid": gone.pid, "alive": True}),
            Scalar("sft/train/loss", 6, 0.5),
            Scalar("sft/train/loss", 7, 0.25),
        ],
    )
    store = Store(tmp_path)
    for _ in range(2):  # from the journal alone, then from the database
        with supervised(tmp_path, "r"):
            status = store.status("r")
        assert (status.stage, status.arm, status.step, status.total_steps) == ("sft", "sft", 7, 40)
        assert (status.unit, status.eta_seconds) == ("steps", 33.0)
        assert status.metrics == {"sft/train/loss": 0.25}
        assert {each.role: each.alive for each in status.processes} == {"trainer": True, "worker": False}
        store.ingest()
    assert store.status("r").eta_seconds is None  # nobody is at it any more


def test_a_number_that_another_process_has_by_now_is_not_a_process_of_the_run(tmp_path: Path) -> None:
    alive = {"pid": os.getpid(), "alive": True}
    said = [Event("process", payload=alive | {"role": role}, ts=1.0) for role in ("supervisor", "trainer")]
    journaled(tmp_path, "r", [registered(), state("running"), *said])
    told = lambda: {one.role: one.alive for one in Store(tmp_path).status("r").processes}  # noqa: E731
    with supervised(tmp_path, "r"):
        assert told() == {"supervisor": True, "trainer": True}
    assert told() == {"supervisor": False, "trainer": False}
    with locked(tmp_path / "runs" / "r" / "trainer.pid", patience=0.0):  # an orphan that is still ending
        assert told() == {"supervisor": False, "trainer": True}


def test_looking_at_a_run_does_not_keep_its_lock(tmp_path: Path) -> None:
    journaled(tmp_path, "r", [registered(), state("running")])
    lock = tmp_path / "runs" / "r" / "run.lock"
    lock.touch()
    store = Store(tmp_path)
    store.runs()
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_runs_are_found_by_id_name_and_beginning(tmp_path: Path) -> None:
    for number, run_id in enumerate(["demo-s0-1", "demo-s1-1", "other-s0-1"]):
        journaled(tmp_path, run_id, [registered(run_id.split("-")[0], ts=1000.0 + number), state("done")])
    store = Store(tmp_path)
    assert [run.run for run in store.runs()] == ["demo-s0-1", "demo-s1-1", "other-s0-1"]
    assert store.resolve("demo-s0-1") == "demo-s0-1"
    assert store.resolve("other") == "other-s0-1"
    assert store.resolve("demo-s1") == "demo-s1-1"
    with pytest.raises(UnknownRun, match=r"demo: 2 runs .*demo-s0-1, demo-s1-1"):
        store.resolve("demo")
    with pytest.raises(UnknownRun, match=r"demo-s0-2: no such run .*did you mean demo-s0-1"):
        store.resolve("demo-s0-2")
    with pytest.raises(UnknownRun, match="absent: no such run"):
        store.status("absent")


def test_a_series_is_reduced_as_numpy_reduces_it(tmp_path: Path) -> None:
    steps = np.arange(3, 10_003)
    values = np.random.default_rng(0).normal(size=steps.size)
    values[1234] = 1e6  # a spike must survive
    journaled(
        tmp_path,
        "r",
        [
            Scalar("m", int(step), float(value), ts=float(step))
            for step, value in zip(steps, values, strict=True)
        ],
    )
    journaled(tmp_path, "r", [Scalar("other", 5, 1.0), Scalar("bad", 0, float("nan"))])
    store = Store(tmp_path)
    store.ingest()
    series = store.series("r", "m", buckets=40, times=True)
    parts = values.reshape(40, 250)
    np.testing.assert_allclose(series.mean, parts.mean(axis=1))
    np.testing.assert_array_equal(series.low, parts.min(axis=1))
    np.testing.assert_array_equal(series.high, parts.max(axis=1))
    np.testing.assert_array_equal(series.step, steps.reshape(40, 250).max(axis=1))
    np.testing.assert_array_equal(series.ts, series.step)
    assert np.isnan(store.series("r", "m").ts).all()

    every = store.series("r", "m", buckets=400, start=100, end=199)
    np.testing.assert_array_equal(every.step, np.arange(100, 200))
    np.testing.assert_array_equal(every.mean, values[97:197])
    assert store.series("r", "m", start=20_000).step.size == 0
    assert np.isnan(store.series("r", "bad").mean).all()
    assert store.metrics("r") == ["bad", "m", "other"]


def test_a_reduced_history_leaves_out_and_counts_what_is_not_finite(tmp_path: Path) -> None:
    values = [1.0, float("nan"), float("inf"), 3.0, float("nan"), float("nan"), 5.0, -float("inf")]
    journaled(tmp_path, "r", [Scalar("m", step, value) for step, value in enumerate(values)])
    store = Store(tmp_path)
    store.ingest()
    pairs = store.series("r", "m", buckets=4)
    np.testing.assert_array_equal(pairs.mean, [1.0, 3.0, np.nan, 5.0])
    np.testing.assert_array_equal(pairs.low, [1.0, 3.0, np.nan, 5.0])
    np.testing.assert_array_equal(pairs.high, [1.0, 3.0, np.nan, 5.0])
    assert pairs.nans.tolist() == [1, 0, 2, 0] and pairs.infs.tolist() == [0, 1, 0, 1]


def test_evaluations_count_questions_and_leave_training_samples_out(tmp_path: Path) -> None:
    rows: list[Record] = []
    for question in range(10):
        for sample in range(2):
            right = question < 4 or (question < 6 and sample == 0)
            outcome = "correct" if right else "truncated" if question == 9 else "wrong"
            rows.append(
                Example(
                    "sft",
                    20,
                    "gsm8k",
                    f"q{question:02}",
                    sample,
                    right,
                    float(right),
                    outcome,
                    "p",
                    "o",
                    10 + sample,
                    finish="length" if question in (0, 9) else "stop",  # cut off with an answer, and without
                )
            )
        rows.append(Example("sft", 20, "validation", f"q{question:02}", 0, True, 1.0, "correct", "p", "o", 1))
    rows.append(Example("sft", 10, "gsm8k", "q00", 0, False, 0.0, "no_answer", "p", "o", 1))
    journaled(tmp_path, "r", rows)
    store = Store(tmp_path)
    store.ingest()
    early, late = store.evaluations("r")
    assert (late.arm, late.step, late.task) == ("sft", 20, "gsm8k")
    assert (late.n, late.samples, late.correct, late.rate, late.cut_off) == (10, 20, 10, 0.5, 4)
    assert (late.mean_tokens, late.mean_words, late.no_answer) == (10.5, None, 2)
    assert (late.prompts_cut, late.window_tokens) == (None, None)  # of suite tasks alone
    assert (late.pass_at_k, late.majority) == (0.6, 0.6)  # an empty answer has no vote
    # By hand: the means over samples have variance 0.2 where outcomes would have 0.25, so 10 questions tell as much
    # as m = 12.5; Wilson: 0.5 ∓ z √(0.25 / m + z² / 4m²) / (1 + z² / m), z = 1.959964
    assert (late.low, late.high) == (pytest.approx(0.257578, abs=1e-6), pytest.approx(0.742422, abs=1e-6))
    assert (early.step, early.no_answer) == (10, 1)
    assert early.cut_off is None  # a row of a version that did not record how completions end
    assert store.evaluations("other") == []

    scores = store.scores("r", "sft", "gsm8k")
    assert (scores.step, len(scores.ids)) == (20, 20)
    assert list(scores.ids[:4]) == ["q00", "q00", "q01", "q01"]
    assert scores.correct.sum() == 10
    assert store.scores("r", "sft", "gsm8k", step=10).score.tolist() == [0.0]
    with pytest.raises(LookupError, match="r/sft@11: no results on task gsm8k"):
        store.scores("r", "sft", "gsm8k", step=11)

    wrong = store.examples("r", "sft", "gsm8k", 20, correct=False, limit=3)
    assert [(each.ex_id, each.sample) for each in wrong] == [("q04", 1), ("q05", 1), ("q06", 0)]
    assert [each.ex_id for each in store.examples("r", "sft", "gsm8k", 20, ids=["q03"])] == ["q03", "q03"]
    assert len(store.examples("r", "sft", limit=None)) == 31


def test_evaluations_keep_the_order_of_the_arms_if_one_is_repeated(tmp_path: Path) -> None:
    config = {"plan": PLAN, "profile": {"arms": [{"name": "base"}, {"name": "sft"}, {"name": "grpo"}]}}
    rows: list[Record] = [RunRow("demo", "demo", 3, config, ts=1000.0)]
    for arm, task in (("base", "b"), ("base", "a"), ("grpo", "b"), ("grpo", "a"), ("sft", "a"), ("sft", "b")):
        rows.append(Example(arm, 1, task, "q", 0, True, 1.0, "correct", "p", "o", 1))
    journaled(tmp_path, "r", rows)
    store = Store(tmp_path)
    store.ingest()
    found = [(row.arm, row.task) for row in store.evaluations("r")]
    assert found == [(arm, task) for arm in ("base", "sft", "grpo") for task in ("b", "a")]


def test_events_come_in_order_of_arrival(tmp_path: Path) -> None:
    events = [Event("log", f"line {number}", ts=50.0 - number) for number in range(5)]
    journaled(tmp_path, "r", [*events[:3], state("running"), *events[3:]])
    store = Store(tmp_path)
    store.ingest()
    assert store.events("r", ["log"]) == events
    assert store.events("r", limit=2) == events[3:]
    assert store.events("r", ["state"])[0].payload == {"state": "running", "reason": ""}
    assert store.events("r", []) == []


def test_events_and_the_tail_behind_them_leave_nothing_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.events_to_here("r") == ([], START)
    events = [Event("log", f"line {number}", ts=50.0 + number) for number in range(6)]
    journaled(tmp_path, "r", events[:4])
    store.ingest()
    journaled(tmp_path, "r", events[4:])  # written, and not yet applied
    past, here = store.events_to_here("r", limit=3)
    assert past == events[1:4]
    assert LiveTail(RunFolder(tmp_path, "r").journal, here).poll() == events[4:]
