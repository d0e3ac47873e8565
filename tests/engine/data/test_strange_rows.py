"""Rows as people and programs leave them: caches, hidden files, other separators, golds that nobody could meet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest

from engine.context import StageFailed
from engine.data import dataset, inputs
from engine.data.dataset import DataError, DataRow, SourceRows, read_split
from engine.grading import grade
from engine.stages import data, traces
from profiles.load import load
from profiles.schema import Profile
from tests.support.stage_context import lines_of, make_context

TRAIN = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(12)]
TEST = [{"question": f"What is {n} + 2?", "answer": str(n + 2)} for n in range(4)]


def profile_of(folder: Path, *settings: str) -> Profile:
    return load("demo", [f"data.source={folder}", "data.validation_rows=2", "eval.shots=0", *settings])


def loaded(folder: Path, *settings: str) -> SourceRows:
    return dataset.load(profile_of(folder, *settings))


def counts(source: SourceRows) -> tuple[int, int]:
    return len(source.train), len(source.test)


def one(folder: Path, **record: Any) -> DataRow:
    path = folder / "train.jsonl"
    path.write_text(json.dumps(record))
    (row,) = read_split([path], "train")
    return row


def test_results_that_datasets_caches_next_to_the_rows_are_no_rows(tmp_path: Path) -> None:
    """Measured before: twice the rows, half of them what a `map` had made of the others."""
    made = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(TRAIN), "test": datasets.Dataset.from_list(TEST)}
    )
    made.save_to_disk(str(tmp_path / "set"))
    datasets.load_from_disk(str(tmp_path / "set")).map(lambda row: {"question": f"{row['question']} mapped"})
    assert len(list((tmp_path / "set/train").glob("*.arrow"))) == 2, "the cache is there"
    source = loaded(tmp_path / "set")
    assert [row.question for row in source.train] == [row["question"] for row in TRAIN]
    assert counts(source) == (12, 4)


def test_one_saved_data_set_is_its_training_split(tmp_path: Path) -> None:
    datasets.Dataset.from_list(TRAIN).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(DataError, match=r"its one split is 'train': .*'train\[:90%\]'"):
        loaded(tmp_path / "set")
    halves = ("data.train_split=train[:50%]", "data.test_split=train[50%:]")
    assert counts(loaded(tmp_path / "set", *halves)) == (6, 6)


def test_hidden_files_are_not_read(tmp_path: Path) -> None:
    for name, rows in (("train", TRAIN), ("test", TEST)):
        pandas.DataFrame(rows).to_parquet(tmp_path / f"{name}.parquet")
        (tmp_path / f"._{name}.parquet").write_bytes(b"\x00\x05\x16\x07")
    for folder in (".cache", ".ipynb_checkpoints", "__MACOSX"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.jsonl").write_text("{}\n")
    assert counts(loaded(tmp_path)) == (12, 4)


@pytest.mark.parametrize(
    "form",
    [
        {"sep": ";"},
        {"sep": "\t"},
        {"encoding": "utf-16"},
        {"encoding": "utf-8-sig", "lineterminator": "\r\n"},
    ],
)
def test_spreadsheets_write_csv_in_many_ways(tmp_path: Path, form: dict[str, Any]) -> None:
    rows = [{"question": f'He said "{n}; {n},\t{n}"\nHow many?', "answer": "1/2"} for n in range(3)]
    pandas.DataFrame(rows).to_csv(tmp_path / "train.csv", index=False, **form)
    found = read_split([tmp_path / "train.csv"], "train")
    assert [(row.question, row.answer) for row in found] == [(row["question"], "1/2") for row in rows]


def test_a_fault_of_all_rows_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"Frage": "?"}\n' * 500)
    with pytest.raises(DataError, match=r"train.jsonl:1 and 499 more lines: no field 'question'") as caught:
        read_split([tmp_path / "train.jsonl"], "train")
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("gold", ["a" * 401, "\\frac{1}{2", ".", "\\text{}"])
def test_a_gold_that_no_completion_can_meet_is_refused(tmp_path: Path, gold: str) -> None:
    with pytest.raises(
        DataError, match=r"train.jsonl:1: (the|gold) answer .*(cannot be graded|401 characters)"
    ):
        one(tmp_path, question="?", solution="We see it.", answer=gold)


@pytest.mark.parametrize(
    "gold",
    [
        "1/2",
        "50%",
        "(1,2)",
        "True",
        "10" * 40,
        "x = 2 or x = -2",
        "\\begin{pmatrix} 1 \\\\\n 2 \\end{pmatrix}",
    ],
)
def test_any_gold_that_is_taken_is_met_by_itself(tmp_path: Path, gold: str) -> None:
    row = one(tmp_path, question="?", solution="We see it.", answer=gold)
    assert grade(f"So it is \\boxed{{{gold}}}.", row.answer).correct


@pytest.mark.parametrize(
    ("record", "question", "solution", "gold"),
    [
        ({"query": "?", "response": "Add.\n#### 5\nThe answer is: 5"}, "?", "Add.\n#### 5\nThe answer is: 5", "5"),
        ({"question": "?", "answer": "So we add them all and see it.\n", "final_answer": 5}, "?",
         "So we add them all and see it.", "5"),
        ({"question": "?", "answer": "#### Conclusion\nIt is \\boxed{5}."}, "?", "#### Conclusion\nIt is \\boxed{5}.",
         "5"),
        ({"question": "?", "answer": "It is \\boxed{5}.\n#### Conclusion"}, "?", "It is \\boxed{5}.\n#### Conclusion",
         "5"),
        ({"Body": "Ann has 4.", "Question": "How many?", "Answer": 4.0}, "Ann has 4.\n\nHow many?", "", "4"),
        ({"instruction": "Add 2 and 3.", "input": "", "output": "5"}, "Add 2 and 3.", "", "5"),
        ({"instruction": "Add.", "input": "2, 3", "output": "5"}, "Add.\n\n2, 3", "", "5"),
        ({"id": "", "question": "?", "answer": 5}, "?", "", "5"),
    ],
)  # fmt: skip
def test_columns_of_well_known_sets(
    tmp_path: Path, record: dict[str, Any], question: str, solution: str, gold: str
) -> None:
    assert one(tmp_path, **record) == DataRow("train-00000", question, solution, gold)


def test_a_short_explanation_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the rationale ends in no boxed answer"):
        one(tmp_path, question="?", rationale="Since 1+1=2 the answer is B", correct="B")


@pytest.mark.parametrize(("choice", "kept"), [("drop", 8), ("keep", 10), ("mark", 10)])
def test_solutions_that_contradict_their_answers_are_counted_and_named(
    tmp_path: Path, choice: str, kept: int
) -> None:
    for name, rows in (("train", TRAIN), ("test", TEST)):
        lines = [
            row | {"solution": f"It is \\boxed{{{row['answer'] if n > 1 else 99}}}."}
            for n, row in enumerate(rows)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    # Rows 0 and 1 are wrong; a seed that keeps both for training.
    for seed in range(20):
        profile = profile_of(tmp_path, f"traces.wrong_answers={choice}", f"data.seed={seed}")
        context, told = make_context(tmp_path / f"home{seed}", profile)
        data.run(context)
        if {"train-00000", "train-00001"} <= {row.ex_id for row in inputs.rows(context, "train")}:
            break
    traces.run(context)
    assert len(inputs.traces(context)) == kept
    assert "; 2 state another answer than their row's" in lines_of(told, "input")[-1].message


def test_a_set_whose_solutions_are_all_wrong_is_refused(tmp_path: Path) -> None:
    for name, rows in (("train", TRAIN), ("test", TEST)):
        lines = [row | {"solution": "It is \\boxed{99}."} for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    context, _ = make_context(tmp_path / "home", profile_of(tmp_path))
    data.run(context)
    with pytest.raises(StageFailed, match="no solution of .* states the answer of its row"):
        traces.run(context)
