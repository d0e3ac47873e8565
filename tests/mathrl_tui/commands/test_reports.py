"""Commands that need no live run, through the real entry point: reports, JSON, errors, start-up."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mathrl_tui.cli import explained
from profiles.load import load
from store.home import RunFolder
from store.journal import JournalWriter
from store.records import Event, Example, Record, RunRow, Scalar
from tests.support.command_line import environment, mathrl

COMMANDS = (
    *("demo", "run", "stop", "kill", "pause", "resume", "checkpoint", "runs", "status", "attach", "export"),
    *("compare", "samples", "grade", "sql", "profiles", "doctor"),
)
QUESTIONS = 200


def examples(arm: str, step: int, right: int) -> list[Record]:
    return [
        Example(
            arm,
            step,
            "word-problems",
            f"q{n}",
            0,
            n < right,
            float(n < right),
            "correct" if n < right else "wrong",
            f"Question: what is {n} + 1?\nAnswer:",
            f"#### {n + (n < right)}",
            4,
            str(n + 1),
            str(n + (n < right)),
        )
        for n in range(QUESTIONS)
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one finished run, as its supervisor would have left it."""
    home = tmp_path_factory.mktemp("home") / "artifacts"
    arms = [{"name": name} for name in ("base", "sft", "grpo")]
    profile = {"name": "demo", "arms": arms, "eval": {"confidence": 0.95, "resamples": 10_000}}
    plan = [{"stage": "sft", "arm": "sft"}, {"stage": "eval", "arm": ""}]
    config = {"name": "demo", "profile": profile, "seed": 3, "plan": plan, "created": 1000.0}
    folder = RunFolder(home, "demo-s3-20260101-000000")
    folder.logs.mkdir(parents=True)
    folder.config.write_text(json.dumps(config))
    writer = JournalWriter(folder.journal)
    writer.append([RunRow("demo", "demo", 3, config, 1000.0)])
    writer.append([Event("state", ts=1001.0, payload={"state": "running"})])
    for step in plan:
        writer.append(
            [Event("stage", stage=step["stage"], arm=step["arm"], ts=1002.0, payload={"status": "finished"})]
        )
    writer.append([Scalar("sft/train/loss", step, 2.0 - step / 100, 1003.0 + step) for step in range(100)])
    writer.append([*examples("base", 0, 30), *examples("sft", 100, 90), *examples("grpo", 50, 91)])
    writer.append([Event("state", ts=1200.0, payload={"state": "done"})])
    writer.close()
    return home


def test_every_command_is_there_and_says_what_it_does(home: Path) -> None:
    text = mathrl(home, "--help").stdout
    assert set(COMMANDS) <= set(text.split())
    for command in ("run", "compare"):
        done = mathrl(home, command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"Usage: mathrl-tui {command}")


def test_help_loads_no_library_that_it_does_not_need(home: Path) -> None:
    for command in ((), ("run",), ("profiles", "show")):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "mathrl_tui", *command, "--help"],
            cwd=home.parent,
            env=environment(home),
            capture_output=True,
            text=True,
        )
        loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "mathrl_tui.cli" in loaded
        assert not loaded & {
            "numpy",
            "duckdb",
            "pydantic",
            "textual",
            "rich",
            "pyarrow",
            "torch",
            "transformers",
        }


def processor_seconds(home: Path, *arguments: str | Path) -> float:
    """The least of three runs: what the wall clock says on a machine with nothing else to do."""
    seconds = []
    for _ in range(3):
        before = os.times()
        assert mathrl(home, *arguments).returncode == 0
        after = os.times()
        seconds.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
    return min(seconds)


def test_help_answers_in_less_than_a_third_of_a_second(home: Path) -> None:
    assert processor_seconds(home, "run", "--help") < 0.3


def test_runs_as_json(home: Path) -> None:
    (run,) = json.loads(mathrl(home, "runs", "--json").stdout)["runs"]
    assert list(run)[:2] == ["run", "name"]
    assert {"run", "name", "state", "stages", "profile", "seed", "started", "ended"} <= set(run)
    assert (run["run"], run["state"], run["seed"]) == ("demo-s3-20260101-000000", "done", 3)
    assert (run["started"], run["ended"]) == (1000.0, 1200.0)


def test_status_as_json_and_as_text(home: Path) -> None:
    status = json.loads(mathrl(home, "status", "demo", "--json").stdout)
    assert {"stage", "step", "total_steps", "eta_seconds", "metrics", "processes"} <= set(status)
    assert status["metrics"]["sft/train/loss"] == pytest.approx(1.01)
    text = mathrl(home, "status").stdout
    assert "demo-s3-20260101-000000: done" in text
    assert "\x1b" not in text


def test_home_may_stand_before_or_behind_the_command(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "empty"
    assert "no runs in" in mathrl(elsewhere, "runs").stdout
    for words in (("--home", home, "runs"), ("runs", "--home", home), (f"--home={home}", "runs")):
        assert "demo-s3-20260101-000000" in mathrl(elsewhere, *words).stdout
    assert not elsewhere.exists()  # looking creates nothing


def test_compare_of_arms(home: Path) -> None:
    done = mathrl(home, "compare", "demo/base", "demo/sft", "--json")
    (row,) = json.loads(done.stdout)["comparisons"]
    assert (row["task"], row["n"], row["a"], row["b"]) == (
        "word-problems",
        QUESTIONS,
        "demo/base",
        "demo/sft",
    )
    assert (row["a_rate"], row["b_rate"], row["difference"]) == (0.15, 0.45, pytest.approx(0.3))
    assert (row["a_only"], row["b_only"]) == (0, 60)
    text = mathrl(home, "compare", "demo/sft", "demo-s3/grpo@50", "--margin", "0.02").stdout
    assert "no difference shown between GRPO@50 and SFT: 0.5 points" in text
    assert "kept" in text


def test_compare_of_files(home: Path, tmp_path: Path) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    a.write_text("".join(json.dumps({"id": n, "correct": n % 3 == 0}) + "\n" for n in range(90)))
    b.write_text("".join(json.dumps({"id": n, "correct": n % 2 == 0}) + "\n" for n in range(90)))
    (row,) = json.loads(mathrl(home, "compare", a, b, "--json").stdout)["comparisons"]
    assert (row["a_rate"], row["b_rate"]) == (pytest.approx(1 / 3), 0.5)
    b.write_text(b.read_text() + "{oops\n")
    done = mathrl(home, "compare", a, b)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{b}:91: not JSON")


def test_samples_wrong_and_flips(home: Path) -> None:
    found = json.loads(mathrl(home, "samples", "demo/sft", "--wrong", "--limit", "3", "--json").stdout)[
        "samples"
    ]
    assert [row["ex_id"] for row in found] == ["q90", "q91", "q92"]
    assert {row["correct"] for row in found} == {False}
    (flip,) = json.loads(mathrl(home, "samples", "demo/grpo", "--flips", "sft", "--json").stdout)["samples"]
    assert (flip["ex_id"], flip["correct"], flip["other"]["correct"]) == ("q90", True, False)
    text = mathrl(home, "samples", "demo/grpo", "--flips", "demo/sft").stdout
    for part in ("what is 90 + 1?", "gold: 91", "#### 91", "sft@100 · wrong · extracted: 90"):
        assert part in text


def test_sql_as_text_and_json(home: Path) -> None:
    query = "SELECT arm, count(*) AS rows FROM eval_row GROUP BY arm ORDER BY arm"
    assert json.loads(mathrl(home, "sql", query, "--json").stdout) == {
        "columns": ["arm", "rows"],
        "rows": [["base", QUESTIONS], ["grpo", QUESTIONS], ["sft", QUESTIONS]],
    }
    assert mathrl(home, "sql", query).stdout.splitlines()[1].split() == ["base", str(QUESTIONS)]
    assert mathrl(home, "sql", "DELETE FROM eval_row").returncode == 2
    count = mathrl(home, "sql", "SELECT count(*) FROM eval_row", "--json").stdout
    assert json.loads(count)["rows"] == [[3 * QUESTIONS]]


def test_export_writes_what_compare_says(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = mathrl(home, "export", "demo", "--format", "json", "--what", "comparisons,evals", "--out", out)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["comparisons.json", "evals.json"]
    rows = json.loads((out / "comparisons.json").read_text())["comparisons"]
    assert [(row["a"], row["b"]) for row in rows] == [("base", "sft"), ("base", "grpo"), ("sft", "grpo")]


def test_grade_writes_verdicts_and_a_summary(home: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"id": "a", "completion": "9 * 2 = 18\n#### 18", "answer": "18"},
        {"id": "b", "completion": "\\boxed{18.00}", "answer": 18},
        {"id": "c", "completion": "I cannot tell", "answer": "5"},
        {"id": "d", "completion": "and so it goes", "answer": "5", "truncated": True},
        {"id": "e", "completion": "#### 7", "answer": "so\n#### 5"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = mathrl(home, "grade", file, "--out", out, "--json")
    assert json.loads(done.stdout)["outcomes"] == {
        "correct": 2,
        "wrong": 1,
        "no_answer": 1,
        "truncated": 1,
        "invalid_gold": 0,
    }
    verdicts = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["id"], row["outcome"], row["extracted"]) for row in verdicts] == [
        ("a", "correct", "18"),
        ("b", "correct", "18"),
        ("c", "no_answer", ""),
        ("d", "truncated", ""),
        ("e", "wrong", "7"),
    ]
    assert "40.0 % of 5 correct" in mathrl(home, "grade", file).stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{oops", "not JSON"),
        ('{"completion": "x"}', "`answer`"),
        ('{"completion": 5, "answer": "1"}', "`completion`"),
        ('{"completion": "x", "answer": NaN}', "`answer` is nan"),  # pandas' missing value
    ],
)
def test_grade_refuses_a_bad_line_and_leaves_nothing(
    home: Path, tmp_path: Path, line: str, words: str
) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text('{"completion": "#### 1", "answer": "1"}\n' + line + "\n")
    done = mathrl(home, "grade", file, "--out", out)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{file}:2: ")
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run",), "no stage given"),
        (("run", "sfx", "--profile", "demo"), "sfx: no such stage"),
        (("run", "sft", "--profile", "dem"), "did you mean demo?"),
        (
            ("run", "sft", "--profile", "demo", "--set", "sft.learning_rte=1"),
            "did you mean sft.learning_rate?",
        ),
        (("run", "sft", "--profile", "demo", "--set", "data.source=/nowhere"), "/nowhere"),
        (("run", "all", "--profile", "demo", "--name", "a/b"), "--name a/b"),
        (("run", "sft", "--profile", "demo", "--seed", "x"), "--seed"),
        (("run", "sft", "--resume", "demo", "--seed", "1"), "--resume"),
        (("stop", "dmeo"), "dmeo: no such run"),
        (("stop", "demo"), "no supervisor is running"),
        (("compare", "demo/base"), "Missing argument 'b'"),
        (("compare", "demo/base", "x.jsonl"), "one is a file"),
        (("compare", "demo/base", "demo/grop"), "evaluated arms: base, grpo, sft"),
        (("samples", "demo"), "write RUN/ARM"),
        (("samples", "demo/sft", "--task", "arc"), "was evaluated on word-problems"),
        (("export", "--format", "xls"), "choose one of csv, markdown, json, parquet"),
        (("export", "--what", "metrics,evil"), "evil"),
        (("sql", "SELEC 1"), "syntax error"),
        (("profiles", "show", "dem"), "did you mean demo?"),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("runs", "--jsn"), "--jsn"),
    ],
)
def test_wrong_use_is_one_line_and_changes_nothing(
    home: Path, arguments: tuple[str, ...], words: str
) -> None:
    before = sorted((home / "runs").rglob("*"))
    done = mathrl(home, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
    assert sorted((home / "runs").rglob("*")) == before


def test_debug_shows_where_it_came_from(home: Path) -> None:
    done = mathrl(home, "profiles", "show", "dem", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("profile dem: no such profile")


def test_profiles_show_every_field(home: Path) -> None:
    assert "demo" in mathrl(home, "profiles").stdout
    text = mathrl(home, "profiles", "show", "demo").stdout
    demo = load("demo")
    assert f"sft.learning_rate = {demo.sft.learning_rate}  # peak learning rate" in text
    assert "arm sft+grpo: grpo, from sft" in text
    assert json.loads(mathrl(home, "profiles", "show", "demo", "--json").stdout) == demo.model_dump(
        mode="json"
    )


def test_a_reader_that_has_had_enough_is_no_fault(home: Path) -> None:
    command = f"{sys.executable} -m mathrl_tui profiles show demo | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], env=environment(home), cwd=home.parent, capture_output=True, text=True
    )
    assert done.stdout.startswith("name = ")
    assert done.stderr == ""


def test_comparing_two_files_of_gsm8k_size_takes_at_most_a_second(home: Path, tmp_path: Path) -> None:
    for name, period in (("a", 3), ("b", 4)):
        lines = [json.dumps({"id": n, "correct": n % period > 0}) + "\n" for n in range(1319)]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    assert processor_seconds(home, "compare", tmp_path / "a.jsonl", tmp_path / "b.jsonl") <= 1.0


STATUSES = {
    "typer.TyperException": 2,
    "mathrl_tui.commands.errors.WrongInput": 2,
    "mathrl_tui.commands.errors.CommandFailed": 1,
    "mathrl_tui.commands.errors.EndedWithFailures": 1,
    "profiles.errors.ProfileError": 2,
    "engine.plan.PlanError": 2,
    "engine.errors.LaunchError": 2,
    "engine.machine.gpus.GpuFault": 1,
    "engine.data.files.DataError": 2,
    "engine.startup.serve.ServerFailed": 1,
    "store.env_file.EnvFileFault": 2,
    "store.home.HomeFault": 2,
    "store.naming.UnknownRun": 2,
    "store.removal.RemovalRefused": 2,
    "store.score_files.InputError": 2,
    "store.errors.StoreError": 1,
    "store.errors.StoreNewer": 1,
    "store.journal.JournalBusy": 1,
    "store.batches.JournalVersion": 1,
    "builtins.FileNotFoundError": 1,
}


@pytest.mark.parametrize(("name", "status"), STATUSES.items())
def test_each_error_for_the_user_has_its_exit_status(name: str, status: int) -> None:
    module, _, error = name.rpartition(".")
    failure = getattr(importlib.import_module(module), error)("the disk of\nthis run")
    found, line = explained(failure)
    assert found == status
    assert line.startswith("the disk of this run")


def test_the_base_error_loads_no_library() -> None:
    heavy = "('pydantic', 'duckdb', 'numpy')"
    command = f"import sys, profiles.errors; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_fault_of_the_program_is_one_line_too() -> None:
    status, line = explained(KeyError("no\nsuch key"))
    assert status == 1
    assert "KeyError" in line
    assert "--debug" in line
    assert "\n" not in line
