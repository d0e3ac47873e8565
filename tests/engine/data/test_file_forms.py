"""Forms of data files and folders: each gives the same rows or a named fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest

from engine.data import dataset
from engine.data.dataset import DataError, check_source
from profiles.load import load
from profiles.schema import Profile
from tests.support.stage_context import gsm_row, write_source

ROWS = [
    {"question": f"What is {n} + ½?", "answer": n, "note": 'with "quotes",\nand a line'} for n in range(1, 8)
]


def save_to_disk(folder: Path) -> None:
    rows = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(folder)


def save_files(suffix: str) -> Callable[[Path], None]:
    frame = pandas.DataFrame(ROWS)
    frame.loc[0, "answer"] = 1.0  # pandas makes floats of a column with a gap
    writers: dict[str, Callable[[pandas.DataFrame, Path], Any]] = {
        "csv": lambda rows, path: rows.to_csv(path),
        "tsv": lambda rows, path: rows.to_csv(path, sep="\t", index=False),
        "parquet": lambda rows, path: rows.to_parquet(path),
        "json": lambda rows, path: rows.to_json(path, orient="records"),
        "jsonl": lambda rows, path: rows.to_json(path, orient="records", lines=True),
        "arrow": lambda rows, path: rows.to_feather(path, compression="uncompressed"),
    }

    def save(folder: Path) -> None:
        for name, rows in (("train", frame), ("test", frame.head(1))):
            writers[suffix](rows, folder / f"{name}.{suffix}")

    return save


def json_in_an_object(folder: Path) -> None:
    for name, rows in (("train", ROWS), ("test", ROWS[:1])):
        (folder / f"{name}.json").write_text(json.dumps({"version": 1, "data": rows}, indent=1))


def json_lines_called_json(folder: Path) -> None:
    for name, rows in (("train", ROWS), ("test", ROWS[:1])):
        (folder / f"{name}.json").write_text("\n".join(map(json.dumps, rows)))


def hub_download(folder: Path) -> None:
    (folder / "data").mkdir()
    for part, rows in (
        ("train-00000-of-00002", ROWS[:3]),
        ("train-00001-of-00002", ROWS[3:]),
        ("test-00000-of-00001", ROWS[:1]),
    ):
        pandas.DataFrame(rows).to_parquet(folder / "data" / f"{part}.parquet")


def nested_by_split(folder: Path) -> None:
    for name, rows in (("train", ROWS), ("test", ROWS[:1])):
        (folder / name).mkdir()
        pandas.DataFrame(rows).to_csv(folder / name / "questions.csv", index=False)


def called_otherwise(folder: Path) -> None:
    for name, rows in (("my_training_set", ROWS), ("mathEval-eval", ROWS[:1])):
        pandas.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    (folder / "README.json").write_text("{}")


LAYOUTS = {
    **{suffix: save_files(suffix) for suffix in ("csv", "tsv", "parquet", "json", "jsonl", "arrow")},
    "save_to_disk": save_to_disk,
    "json in an object": json_in_an_object,
    "json lines called json": json_lines_called_json,
    "hub download": hub_download,
    "nested by split": nested_by_split,
    "called otherwise": called_otherwise,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_form_of_file_and_folder_gives_the_same_rows(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path)
    profile = load("demo", [f"data.source={tmp_path}", "data.validation_rows=2"])
    check_source(profile, ("grpo", "eval"))
    source = dataset.load(profile)
    questions = [(row["question"], str(row["answer"]), "") for row in ROWS]
    assert [(row.question, row.answer, row.solution) for row in source.train] == questions
    assert [(row.question, row.answer, row.solution) for row in source.test] == questions[:1]
    assert [row.ex_id for row in source.train] == [f"train-{n:05d}" for n in range(7)]
    assert len(source.files) == (3 if layout == "hub download" else 2)


def test_decimals_of_parquet_are_numbers(tmp_path: Path) -> None:
    for name in ("train", "test"):
        rows = [{"question": "?", "answer": Decimal("2.50")}, {"question": "??", "answer": Decimal("3.00")}]
        pandas.DataFrame(rows).to_parquet(tmp_path / f"{name}.parquet")
    source = dataset.load(load("demo", [f"data.source={tmp_path}", "data.validation_rows=1"]))
    assert [row.answer for row in source.test] == ["2.50", "3"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("train.csv", b"question,answer\n1+1?,2\n1+2?,3,4\n", "train.csv:3: has more fields than the header"),
        ("train.csv", b"question,answer\n1+1?,2\n1+2?\n", "train.csv:3: has fewer fields than the header"),
        ("train.csv", b'question,answer\n1+1?,2\n"1+2?,3\n', "train.csv:3: not CSV that can be read"),
        ("train.csv", b"question,answer\ncaf\xe9?,2\n", "train.csv:2: question holds the control or broken character"),
        ("train.csv", b"1+1?,2\n1+2?,3\n", "train.csv:2: no field 'question'"),
        ("train.csv", b"question,answer\n1+1?,\n", "train.csv:2: answer is empty"),
        ("train.csv", b"question,answer\n", "holds no rows"),
        ("train.json", b'[{"question": "1+1?", "answer": 2}, {"question": "1+2?"}]', "train.json:2: no field 'answer'"),
        ("train.json", b'[{"question": "1+1?", "answer": 2}, ', "train.json:1: not JSON"),
        ("train.parquet", b"PAR1 and not more", "train.parquet: not Parquet that can be read"),
        ("train.arrow", b"ARROW1 and not more", "train.arrow: not Arrow that can be read"),
    ],
)  # fmt: skip
def test_a_fault_in_any_form_is_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "test.jsonl").write_text('{"question": "2+2?", "answer": 4}')
    with pytest.raises(DataError) as caught:
        check_source(load("demo", [f"data.source={tmp_path}", "data.validation_rows=1"]))
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def profile_for(source: Path, *overrides: str) -> Profile:
    return load("demo", [f"data.source={source}", "data.validation_rows=3", *overrides])


def test_two_forms_of_one_split_are_refused_but_json_lines_come_first(tmp_path: Path) -> None:
    for suffix in ("csv", "parquet"):
        save_files(suffix)(tmp_path)
    with pytest.raises(
        DataError,
        match=r"the split train is there in several forms \(.csv, .parquet\); .*data.train_split=train.csv",
    ):
        check_source(profile_for(tmp_path))
    named = profile_for(tmp_path, "data.train_split=train.csv", "data.test_split=test.csv")
    assert dataset.fingerprint(named).keys() == {"train.csv", "test.csv"}
    write_source(tmp_path, [gsm_row(n) for n in range(9)], [gsm_row(50)])
    assert dataset.fingerprint(profile_for(tmp_path)).keys() == {"train.jsonl", "test.jsonl"}
