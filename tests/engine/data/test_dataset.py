"""Sources, row checks, splits, contamination and the stage `data`, up to real GSM8K."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.context import StageFailed
from engine.data import dataset, inputs
from engine.data.cache import building
from engine.data.contamination import overlap
from engine.data.dataset import DataError, DataRow, check_source, read_split
from engine.data.locations import missing_input
from engine.stages import data
from profiles.load import load
from profiles.schema import Profile
from tests.support.places import SHARED
from tests.support.stage_context import gsm_row, lines_of, make_context, write_source

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="MATHRL_SHARED names no folder")


def profile_for(source: Path, *overrides: str) -> Profile:
    return load("demo", [f"data.source={source}", "data.validation_rows=5", *overrides])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_source(
        tmp_path / "source", [gsm_row(n) for n in range(40)], [gsm_row(n) for n in range(100, 110)]
    )


POISON = [
    (b'{"question": "a", "answer": "b"', "not JSON"),
    (b"<html><body>502 Bad Gateway</body></html>", "HTML, not JSON"),
    (b'["question", "answer"]', "not an object"),
    (b'{"question": "How many?"}', "no field 'answer'"),
    (
        b'{"question": "How many?", "answer": true}',
        "answer is a JSON bool (True), not text or a finite number",
    ),
    (b'{"question": "How many now?", "answer": NaN}', "answer is a JSON float (nan)"),
    (b'{"question": "How many then?", "answer": [18]}', "answer is a JSON list"),
    (b'{"question": 7, "answer": " "}', "answer is empty"),
    (
        b'{"Frage": "Wie viele?", "answer": 18}',
        "no field 'question' (nor any other of problem, question, prompt",
    ),
    (b'{"question": "  ", "answer": "#### 1"}', "question is empty"),
    (b'{"question": "How many ducks?", "answer": "Now there are 18 ducks left in it"}', "no '#### N'"),
    (
        b'{"question": "How many geese?", "solution": "So they are as many."}',
        "the solution ends in no boxed answer",
    ),
    (b'{"question": "How many swans?", "answer": "so it is ####  "}', "no '#### N'"),
    (b'{"question": "How <div>many</div>?", "answer": "#### 1"}', "HTML (<div>)"),
    (b'{"question": "5 &lt; 6, how many?", "answer": "#### 1"}', "HTML (&lt;)"),
    (b'{"question": "How\\u0000many?", "answer": "#### 1"}', "U+0000"),
    (b'{"question": "raw \x00 many?", "answer": "#### 1"}', "NUL byte"),
    (b'{"question": "caf\xe9?", "answer": "#### 1"}', "not UTF-8"),
    (b'{"question": "lone \\ud800 half?", "answer": "#### 1"}', "U+D800"),
    (b'{"question": "' + b"x" * 30_000 + b'", "answer": "#### 1"}', "30,000 characters"),
    (b'{"question": "' + b"x" * (1 << 20) + b'", "answer": "#### 1"}', "a line of 1,048,"),
    (b'{"id": "twice", "question": "Another?", "answer": "#### 1"}', "repeats the id 'twice' of line 1"),
    (b'{"question": "How many hens?", "answer": "#### 2"}', "repeats the question of line 2"),
    (b"[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("line", "reason"), POISON, ids=[reason for _, reason in POISON])
def test_a_faulty_line_is_refused_with_file_line_and_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "train.jsonl"
    good = [
        {"id": "twice", "question": "Some?", "answer": "#### 1"},
        {"question": "How many hens?", "answer": "#### 2"},
    ]
    path.write_bytes(
        b"".join(json.dumps(row).encode() + b"\n" for row in good) + line + b"\n" + b'{"id": "last"}'
    )
    with pytest.raises(DataError) as caught:
        read_split([path], "train")
    message = str(caught.value)
    assert f"{path}:3: " in message
    assert reason in message
    assert f"{path}:4: no field 'question'" in message, "reading goes on behind a faulty line"
    assert "\n" not in message


@pytest.mark.parametrize("poison", [POISON[:12], POISON[12:]])
def test_every_faulty_line_is_named_once(tmp_path: Path, poison: list[tuple[bytes, str]]) -> None:
    path = tmp_path / "train.jsonl"
    good = [
        {"id": "twice", "question": "Some?", "answer": "#### 1"},
        {"question": "How many hens?", "answer": "#### 2"},
    ]
    path.write_bytes(b"\n".join([json.dumps(row).encode() for row in good] + [line for line, _ in poison]))
    with pytest.raises(DataError) as caught:
        read_split([path], "train")
    for number, (_, reason) in enumerate(poison, start=3):
        assert str(caught.value).count(f"{path}:{number}: ") == 1
        assert reason in str(caught.value)


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train.jsonl: no such file"):
        read_split([tmp_path / "train.jsonl"], "train")
    (tmp_path / "test.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"test.jsonl: holds no rows; the test split"):
        read_split([tmp_path / "test.jsonl"], "test")


def test_rows_are_read_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(
        json.dumps(gsm_row(1)) + "\r\n\n" + json.dumps(gsm_row(2, id=77)) + "\n"
        '{"problem": "$x<b>y$?", "solution": "It is $\\\\boxed{\\\\frac{1}{2}}$.", "unique_id": "m1"}',
        encoding="utf-8-sig",
    )
    rows = read_split([path], "train")
    assert [row.ex_id for row in rows] == ["train-00000", "77", "m1"]
    assert [row.answer for row in rows] == ["2", "3", "\\frac{1}{2}"]
    assert rows[0].solution == gsm_row(1)["answer"]


def test_an_id_that_is_null_is_none(tmp_path: Path) -> None:
    rows = [gsm_row(0, id=None), gsm_row(1, id=None, unique_id="mine"), gsm_row(2, id=0)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_split([tmp_path / "train.jsonl"], "train")
    assert [row.ex_id for row in found] == ["train-00000", "mine", "0"]


def test_the_split_is_seeded_disjoint_and_loses_nothing(small: Path) -> None:
    profile = profile_for(small, "eval.shots=[0, 3]")
    source = dataset.load(profile)
    first, again, other = (
        dataset.split(source, profile_for(small, "eval.shots=[0, 3]", f"data.seed={seed}"))
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first.validation != other.validation
    assert (len(first.train), len(first.validation), len(first.shots), len(first.test)) == (32, 5, 3, 10)
    together = Counter(row.ex_id for row in first.train + first.validation + first.shots)
    assert together == Counter(row.ex_id for row in source.train)
    fewer = dataset.split(source, profile_for(small, "data.train_limit=7", "data.test_limit=4"))
    assert (len(fewer.train), len(fewer.test)) == (7, 4)
    assert fewer.validation == first.validation, (
        "limits and few-shot examples leave the validation rows alone"
    )
    assert fewer.test == source.test[:4]


def test_check_source_refuses_before_anything_starts(small: Path, tmp_path: Path) -> None:
    check_source(profile_for(small))
    check_source(load("demo"))
    check_source(load("qwen2.5-math-1.5b"))
    for profile, words in (
        (profile_for(tmp_path / "nowhere"), "no such folder"),
        (profile_for(small, "data.validation_rows=40"), "leave none"),
        (load("demo", ["data.source=what is this"]), "neither a folder nor a hub name"),
        (load("demo", ["data.train_rows=256"]), "leave none"),
    ):
        with pytest.raises(DataError, match=words):
            check_source(profile)
    with (small / "test.jsonl").open("a") as file:
        file.write('{"question": "torn')
    with pytest.raises(DataError, match=r"test.jsonl:11: not JSON"):
        check_source(profile_for(small))


def test_contamination_by_hand() -> None:
    def row(name: str, question: str) -> DataRow:
        return DataRow(name, question, "", "")

    thirteen = "one two three four five six seven eight nine ten eleven twelve thirteen"
    train = [
        row("a", "Short one?"),
        row("b", f"Before: {thirteen}, after."),
        row("c", "Nothing alike at all."),
    ]
    test = [
        row("same", "short ONE"),
        row("run", thirteen.upper() + "!"),
        row("twelve", thirteen.rsplit(" ", 1)[0]),
        row("other", "Quite another question"),
    ]
    found = overlap("test", test, "train", train)
    assert found.exact == ("same",)
    assert found.shared_run == ("same", "run")
    assert ("run", "b") in found.pairs


def test_the_stage_makes_splits_and_card_once(small: Path, tmp_path: Path) -> None:
    context, told = make_context(tmp_path / "home", profile_for(small))
    data.run(context)
    assert len(inputs.rows(context, "train")) == 35
    assert [row.answer for row in inputs.rows(context, "test")] == [str(n) for n in range(101, 111)]
    card = json.loads((context.folder.path / "data_card.json").read_text())
    assert card["source_rows"] == {"train": 40, "test": 10}
    assert card["splits"]["validation"]["rows"] == 5
    assert set(card["files"]) == {"train.jsonl", "test.jsonl"}
    assert "35" in (context.folder.path / "data_card.md").read_text()
    assert lines_of(told, "progress")[-1].payload["done"] == 4
    assert "skipped" not in [event.payload["status"] for event in lines_of(told, "stage")]

    second, told = make_context(tmp_path / "home", profile_for(small, "sft.steps=3"), run="second")
    data.run(second)
    assert [event.payload["status"] for event in lines_of(told, "stage")] == ["skipped"]
    assert (second.folder.path / "data_card.json").is_file()

    for changed in (profile_for(small, "data.validation_rows=6"), profile_for(small, "eval.shots=[2]")):
        third, told = make_context(tmp_path / "home", changed, run="third")
        data.run(third)
        assert lines_of(told, "stage") == []


def test_a_changed_source_file_is_another_input(small: Path, tmp_path: Path) -> None:
    context, _ = make_context(tmp_path / "home", profile_for(small))
    data.run(context)
    with (small / "train.jsonl").open("a") as file:
        file.write(json.dumps(gsm_row(77)) + "\n")
    with pytest.raises(StageFailed, match="run data first"):
        inputs.rows(context, "train")
    data.run(context)
    assert len(inputs.rows(context, "train")) == 36


def test_a_bad_source_leaves_nothing_behind(small: Path, tmp_path: Path) -> None:
    (small / "train.jsonl").write_text("{")
    context, _ = make_context(tmp_path / "home", profile_for(small))
    with pytest.raises(StageFailed, match=r"train.jsonl:1: not JSON"):
        data.run(context)
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []


def test_an_output_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), building(tmp_path / "cache" / "out") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list((tmp_path / "cache").iterdir()) == []
    with building(tmp_path / "cache" / "out") as folder:
        (folder / "whole").write_text("first")
    with building(tmp_path / "cache" / "out") as folder:
        (folder / "whole").write_text("second, which came too late")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["out"]
    assert (tmp_path / "cache" / "out" / "whole").read_text() == "first"


def test_missing_input_is_told_before_a_run_starts(small: Path, tmp_path: Path) -> None:
    profile, home = profile_for(small), tmp_path / "home"
    assert "stage traces" in missing_input(home, profile, ["traces", "preprocess"])
    assert missing_input(home, profile, ["data", "traces", "preprocess", "sft"]) == ""
    context, _ = make_context(home, profile)
    data.run(context)
    assert missing_input(home, profile, ["traces", "preprocess"]) == ""
    other = profile_for(small, "data.seed=1")
    assert "has no output of stage data" in missing_input(home, other, ["traces"])


@pytest.mark.parametrize("source", ["rows", "word-problems"])
def test_questions_follow_from_data_seed_and_not_from_the_runs(
    source: str, small: Path, tmp_path: Path
) -> None:
    """A run of another seed finds every split made; another `data.seed` makes others."""
    names: tuple[inputs.SplitName, ...] = ("train", "validation", "test", "shots")
    settings = ["eval.shots=[2]", "data.train_rows=40", "data.test_rows=10"]
    where = small if source == "rows" else Path("word-problems")
    made: list[dict[str, list[DataRow]]] = []
    for number, (run_seed, data_seed) in enumerate(((0, 0), (1, 0), (0, 1))):
        profile = profile_for(where, *settings, f"data.seed={data_seed}")
        context, told = make_context(tmp_path / "home", profile, seed=run_seed, run=f"run{number}")
        data.run(context)
        assert bool(lines_of(told, "stage")) == (number == 1), "the second run finds the first one's output"
        made.append({name: inputs.rows(context, name) for name in names})
    assert made[0] == made[1]
    assert made[0]["validation"] != made[2]["validation"] and made[0]["shots"] != made[2]["shots"]
    assert (made[0]["test"] != made[2]["test"]) == (source == "word-problems")


def test_the_hub_is_asked_for_the_pinned_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    commit, asked = "a" * 40, []

    def load_dataset(name: str, configuration: str | None, *, split: str, revision: str) -> Any:
        asked.append((name, configuration, split, revision))
        first = 1000 * len(asked)
        return datasets.Dataset.from_list([gsm_row(n) for n in range(first, first + 30)])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    overrides = [
        f"data.revision={commit}",
        "data.validation_rows=5",
        "data.platinum=true",
        "traces.source=solutions",
    ]
    context, _ = make_context(tmp_path, load("qwen2.5-math-1.5b", [*overrides, "eval.shots=[0, 2]"]))
    data.run(context)
    assert asked == [
        ("madrylab/gsm8k-platinum", "main", "test", "main"),
        ("openai/gsm8k", "main", "train", commit),
        ("openai/gsm8k", "main", "test", commit),
    ]
    names: tuple[inputs.SplitName, ...] = ("train", "validation", "shots", "test", "platinum")
    assert [len(inputs.rows(context, name)) for name in names] == [23, 5, 2, 30, 30]
    card = json.loads((context.folder.path / "data_card.json").read_text())
    assert (card["licence"], card["files"]) == ("MIT", {"openai/gsm8k": commit})


def test_a_cached_set_is_enough_where_there_is_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` goes on with what it has; only the commit stays unknown."""
    import datasets
    import huggingface_hub

    nowhere = partial(huggingface_hub.HfApi, endpoint="http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub, "HfApi", nowhere)
    rows = datasets.Dataset.from_list([gsm_row(number) for number in range(4)])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    source = dataset.load(load("qwen2.5-math-1.5b"))
    assert (len(source.train), source.files) == (4, {"openai/gsm8k": "main"})


def test_a_hub_that_gives_nothing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    context, _ = make_context(tmp_path, load("qwen2.5-math-1.5b"))
    with pytest.raises(
        StageFailed, match=r"openai/gsm8k \(train, revision main\): the hub did not provide it"
    ) as caught:
        data.run(context)
    assert "\n" not in str(caught.value)


@needs_shared
def test_real_gsm8k_loses_no_row(tmp_path: Path) -> None:
    overrides = [f"data.source={SHARED / 'data/gsm8k'}", "data.validation_rows=512"]
    context, _ = make_context(tmp_path, load("demo", overrides))
    data.run(context)
    counts = {name: len(inputs.rows(context, name)) for name in ("train", "validation", "test")}
    assert counts == {"train": 7473 - 512, "validation": 512, "test": 1319}
    lines = (SHARED / "data/gsm8k/train.jsonl").read_text().splitlines()
    kept = {row.question for name in ("train", "validation") for row in inputs.rows(context, name)}
    assert kept == {json.loads(line)["question"].strip() for line in lines}
    card = json.loads((context.folder.path / "data_card.json").read_text())
    assert card["licence"] == "GSM8K train, MIT; GSM8K test, MIT"
    assert [check["exact"] for check in card["contamination"]] == [0, 0]
