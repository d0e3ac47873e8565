"""Exports against files kept beside this test, and against other readers of the formats."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mathrl_tui.cli import explained
from store import export_formats
from store.comparison import run_comparisons
from store.errors import StoreError
from store.export import FORMATS, Format, export
from store.home import RunFolder
from store.journal import JournalWriter
from store.query import Store
from store.records import Example, Record, RunRow, Scalar

FULL = Path("/dev/full")  # every write to it meets a full disk
GOLDEN = Path(__file__).parent / "golden" / "store"
OUTPUT = 'a | b, "c"\n<think>2*3 \\boxed{6}\r\n=SUM(A1) 數'
WHAT = ("metrics", "evals", "examples", "config")
ENDINGS = {"csv": "csv", "markdown": "md", "json": "json"}


def answers(arm: str, right: str) -> list[Record]:
    return [
        Example(arm, 20, "gsm8k", str(number), 0, mark == "1", float(mark), "correct" if mark == "1" else "wrong",
                "Question: 1 | 2?", OUTPUT, 12, "6", mark, 1_800_000_000.25, "stop" if number else "length")
        for number, mark in enumerate(right)
    ]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    config = {
        "profile": {
            "name": "demo",
            "model": {"source": "org/Model-1B"},
            "sft": {"learning_rate": 2e-6, "steps": 40},
        },
        "seed": 3,
        "plan": [],
    }
    records: list[Record] = [
        RunRow("demo", "demo", 3, config, ts=1_800_000_000.0),
        Scalar("sft/train/loss", 1, 1 / 3, ts=1_800_000_001.5),
        Scalar("sft/train/loss", 2, math.nan, ts=1_800_000_002.0),
        *answers("base", "0011"),
        *answers("sft", "1111"),
    ]
    for run_id in ("demo-s3-1", "demo-s3-2"):
        with JournalWriter(RunFolder(tmp_path / "home", run_id).journal) as writer:
            writer.append(records)
    return Store(tmp_path / "home")


@pytest.mark.parametrize("format_name", ENDINGS)
def test_files_are_as_the_kept_ones(store: Store, tmp_path: Path, format_name: str) -> None:
    paths = export(store, ["demo-s3-1"], WHAT, format_name, tmp_path / "out")  # type: ignore[arg-type]
    assert [path.name for path in paths] == [f"{kind}.{ENDINGS[format_name]}" for kind in WHAT]
    assert sorted((tmp_path / "out").iterdir()) == sorted(paths)
    for path in paths:
        assert path.read_bytes() == (GOLDEN / path.name).read_bytes(), path.name


def test_csv_reads_back_exactly_elsewhere(store: Store, tmp_path: Path) -> None:
    (path,) = export(store, [], ["examples"], "csv", tmp_path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert {row["output"] for row in rows} == {OUTPUT}
    assert [row["run"] for row in rows] == ["demo-s3-1"] * 8 + ["demo-s3-2"] * 8


def test_parquet_holds_typed_rows(store: Store, tmp_path: Path) -> None:
    metrics, examples = export(store, ["demo-s3-2"], ["metrics", "examples"], "parquet", tmp_path)
    rows = pq.read_table(metrics).to_pylist()
    assert [(row["run"], row["metric"], row["step"]) for row in rows] == [
        ("demo-s3-2", "sft/train/loss", 1),
        ("demo-s3-2", "sft/train/loss", 2),
    ]
    assert rows[0]["value"] == 1 / 3
    assert math.isnan(rows[1]["value"])
    assert rows[0]["time"].isoformat() == "2027-01-15T08:00:01.500000"
    assert pq.read_table(examples).column("output").to_pylist() == [OUTPUT] * 8


def test_comparisons_are_those_of_the_statistics(tmp_path: Path) -> None:
    arms = [{"name": "base"}, {"name": "sft"}]
    config = {"profile": {"arms": arms, "eval": {"confidence": 0.95, "resamples": 500}}, "seed": 3}
    for run_id in ("first", "second"):
        with JournalWriter(RunFolder(tmp_path, run_id).journal) as writer:
            writer.append(
                [RunRow(run_id, "demo", 3, config), *answers("base", "0011"), *answers("sft", "1111")]
            )
    store = Store(tmp_path)
    (path,) = export(store, ["first"], ["comparisons"], "json", tmp_path)
    found = json.loads(path.read_text())["comparisons"]
    assert found == [each.to_json() | {"model": None} for each in run_comparisons(store, "first")]
    assert [(each["a"], each["b"], each["difference"]) for each in found] == [("base", "sft", 0.5)]
    (path,) = export(store, [], ["comparisons"], "csv", tmp_path)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [(row["a"], row["b"]) for row in rows] == [
        ("first/base", "first/sft"),
        ("second/base", "second/sft"),
    ]


def test_nothing_to_export_gives_headers_alone(tmp_path: Path) -> None:
    paths = export(
        Store(tmp_path / "home"), [], ["metrics", "evals", "comparisons", "config"], "csv", tmp_path
    )
    assert [len(path.read_text().splitlines()) for path in paths] == [1, 1, 1, 1]
    assert paths[0].read_text() == "run,metric,step,value,time\n"


def test_a_failed_export_leaves_the_old_file_and_nothing_else(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    (old,) = export(store, [], ["examples"], "markdown", out)
    before = old.read_bytes()

    def full(value: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_formats, "markdown_cell", full)
    with pytest.raises(OSError, match="No space"):
        export(store, [], ["examples"], "markdown", out)
    assert list(out.iterdir()) == [old]
    assert old.read_bytes() == before


@pytest.mark.parametrize("form", FORMATS)
def test_a_disk_that_is_full_is_told_with_the_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Format
) -> None:
    ending, write = export_formats.WRITERS[form]
    to_a_full_disk = ending, lambda connection, query, kind, path: write(connection, query, kind, FULL)
    monkeypatch.setitem(export_formats.WRITERS, form, to_a_full_disk)
    with pytest.raises((OSError, StoreError)) as caught:
        export(store, [], ["examples"], form, tmp_path / "out")
    status, line = explained(caught.value)
    assert status == 1
    assert line.startswith(f"{tmp_path}/out/examples.{ending}: ")
    assert "cannot be written: no space is left on its disk" in line


def test_every_format_is_known() -> None:
    assert set(FORMATS) == set(export_formats.WRITERS)
