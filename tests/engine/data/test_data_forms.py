"""Forms of rows: answers alone, names of columns, splits and their parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest

from engine.context import StageFailed
from engine.data import dataset, inputs, locations
from engine.data.dataset import DataError, DataRow, check_source, read_split
from engine.data.prompts import worked
from engine.data.split_files import part_of
from engine.grading import grade
from engine.stages import data, preprocess, traces
from profiles.errors import ProfileError
from profiles.load import load
from profiles.schema import Profile
from tests.engine.stages.test_preprocess import make_tokenizer
from tests.support.stage_context import gsm_row, lines_of, make_context, write_source

BOX = "put your final answer within \\boxed{}."
WORKED = "2 + 3 = 5\n#### 5"
LONG = "We add two and three apples: \\boxed{5}."


def one(record: dict[str, Any], folder: Path) -> DataRow:
    path = folder / "train.jsonl"
    path.write_text(json.dumps(record))
    (row,) = read_split([path], "train")
    return row


@pytest.mark.parametrize(
    ("record", "solution", "gold"),
    [
        ({"question": "?", "answer": "3/4"}, "", "3/4"),
        ({"problem": "?", "answer": 5}, "", "5"),
        ({"question": "?", "answer": -2.5}, "", "-2.5"),
        ({"question": "?", "answer": 142.0}, "", "142"),
        ({"question": "?", "answer": "x = 2 or x = -2"}, "", "x = 2 or x = -2"),
        ({"question": "?", "answer": "\\frac{1}{2} \\text{ of it}"}, "", "\\frac{1}{2} \\text{ of it}"),
        ({"question": "?", "answer": "\\boxed{7}"}, "", "7"),
        ({"question": "?", "answer": WORKED}, WORKED, "5"),
        ({"question": "?", "answer": "#### 5"}, "#### 5", "5"),
        ({"question": "?", "answer": LONG}, LONG, "5"),
        ({"problem": "?", "solution": "It is \\boxed{5}.", "answer": "5"}, "It is \\boxed{5}.", "5"),
        ({"problem": "?", "solution": "It is \\boxed{5}."}, "It is \\boxed{5}.", "5"),
        ({"question": "?", "solution": "Two and three.", "answer": 5}, "Two and three.", "5"),
        ({"question": "?", "solution": WORKED, "answer": None}, WORKED, "5"),
        ({"question": "?", "solution": "", "answer": 5}, "", "5"),
        ({"question": "?", "solution": "42"}, "", "42"),
        ({"Problem": "?", "Final_Answer": 5}, "", "5"),
        ({"prompt": "?", "target": "5"}, "", "5"),
        ({"query": "?", "expected-answer": "5"}, "", "5"),
        ({"input": "?", "groundtruth": "5"}, "", "5"),
        ({"question": "?", "generated_solution": "So \\boxed{5}", "expected_answer": "5"}, "So \\boxed{5}", "5"),
        ({"problem": "?", "question": "other", "solution": "So \\boxed{5}", "level": 3}, "So \\boxed{5}", "5"),
    ],
)  # fmt: skip
def test_a_record_gives_question_solution_and_answer(
    tmp_path: Path, record: dict[str, Any], solution: str, gold: str
) -> None:
    row = one(record, tmp_path)
    assert (row.question, row.solution, row.answer) == ("?", solution, gold)
    for instruction in ("", BOX):
        assert grade(worked(row, instruction), gold).correct, "an example shows the answer, in either form"


def test_a_worked_example_ends_in_the_form_that_is_asked_for() -> None:
    for solution, plain, boxed in (
        ("", "#### 5", "\\boxed{5}"),
        ("2 + 3 = 5", "2 + 3 = 5\n#### 5", "2 + 3 = 5\n\n\\boxed{5}"),
        (WORKED, WORKED, "2 + 3 = 5\n\n\\boxed{5}"),
        ("It is \\boxed{5}.", "It is \\boxed{5}.", "It is \\boxed{5}."),
    ):
        row = DataRow("a", "?", solution, "5")
        assert (worked(row, ""), worked(row, BOX)) == (plain, boxed)


def answers_only(folder: Path, train: int = 12, test: int = 5) -> Path:
    rows = [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(100)]
    return write_source(folder, rows[:train], rows[-test:])


def profile_for(source: Path, *overrides: str) -> Profile:
    return load("demo", [f"data.source={source}", "data.validation_rows=3", *overrides])


def test_answers_alone_are_enough_for_grpo_and_not_for_sft(tmp_path: Path) -> None:
    profile = profile_for(answers_only(tmp_path / "rows"))
    check_source(profile, ("data", "traces", "preprocess", "grpo", "eval"))
    with pytest.raises(
        DataError,
        match=r"12 of 12 training rows have an answer alone \(first: train-00000\), and stage sft learns from",
    ):
        check_source(profile, ("data", "traces", "preprocess", "sft"))
    check_source(profile_for(tmp_path / "rows", "traces.source=api"), ("traces", "sft"))


def stages(home: Path, profile: Profile, plan: tuple[str, ...] = ()) -> Any:
    context, told = make_context(home, profile)
    if plan:
        context.folder.config.write_text(
            json.dumps({"plan": [{"stage": stage, "arm": ""} for stage in plan]})
        )
    for stage in (data, traces, preprocess):
        stage.run(context)
    return context, told


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"), ["What is 4 + 1?"], 300)


def model_profile(tokenizer: Path, source: Path, *overrides: str) -> Profile:
    fixed = [
        f"data.source={source}",
        f"model.source={tokenizer}",
        "traces.source=solutions",
        "data.validation_rows=3",
    ]
    return load("qwen2.5-math-1.5b", [*fixed, "eval.shots=0", "eval.templates=", *overrides])


def test_prompts_of_answers_alone_through_the_stages(tmp_path: Path, tokenizer: Path) -> None:
    profile = model_profile(tokenizer, answers_only(tmp_path / "rows"), "eval.shots=0,2")
    context, told = stages(tmp_path / "home", profile)
    assert len(inputs.prompts(context, "train")) == 7 and len(inputs.sequences(context)) == 0
    assert [prompt.gold for prompt in inputs.prompts(context, "test")] == [str(n + 1) for n in range(95, 100)]
    shown = inputs.prompts(context, "test", shots=2)[0].text
    assert all(f"\\boxed{{{row.answer}}}<|im_end|>" in shown for row in inputs.rows(context, "shots"))
    summaries = [event.message for event in lines_of(told, "input")]
    assert "0 traces" in summaries[1] and "7 rows have an answer alone" in summaries[1]


def test_a_test_split_alone_can_be_evaluated_on_and_not_trained_on(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "test.csv").write_text("question,answer\n1+1?,2\n1+2?,3\n")
    profile = model_profile(tokenizer, tmp_path / "rows")
    check_source(profile, ("data", "traces", "preprocess", "eval"))
    context, _ = stages(tmp_path / "home", profile)
    assert [prompt.gold for prompt in inputs.prompts(context, "test")] == ["2", "3"]
    assert inputs.prompts(context, "train") == inputs.prompts(context, "validation") == []
    for stage in ("sft", "grpo"):
        with pytest.raises(
            DataError, match=f"has no split 'train' for stage {stage}; choose one with data.train_split"
        ):
            check_source(profile, ("data", stage))
    with pytest.raises(DataError, match=r"eval.shots: worked examples come from the split 'train'"):
        check_source(model_profile(tokenizer, tmp_path / "rows", "eval.shots=4"), ("eval",))


def test_a_split_can_be_divided(tmp_path: Path) -> None:
    path = tmp_path / "questions.csv"
    path.write_text("question,answer\n" + "".join(f"{n}+1?,{n + 1}\n" for n in range(20)))
    with pytest.raises(
        DataError, match=r"no split 'test' there; its one split is 'train': data.test_split=train evaluates"
    ):
        check_source(profile_for(path), ("data",))
    parts = ("data.train_split=train[:90%]", "data.test_split=train[90%:]")
    source = dataset.load(profile_for(path, *parts))
    assert [row.ex_id for row in source.test] == ["train-00018", "train-00019"]
    assert [row.ex_id for row in source.train] == [f"train-{n:05d}" for n in range(18)]
    check_source(profile_for(path, *parts), ("grpo",))
    whole = profile_for(path, "data.test_split=train")
    check_source(whole, ("data", "eval"))
    for stages_, more in ((("grpo",), ()), (("eval",), ("eval.shots=2",))):
        with pytest.raises(
            DataError, match=r"share 20 rows \(first: train-00000\); give parts that do not overlap"
        ):
            check_source(profile_for(path, "data.test_split=train", *more), stages_)
    with pytest.raises(DataError, match=r"the part train\[50:\] holds no rows"):
        check_source(profile_for(path, "data.train_split=train[:50]", "data.test_split=train[50:]"))
    with pytest.raises(ProfileError, match="data.test_split"):
        profile_for(path, "data.test_split=train[90%]")


def test_parts_count_as_pythons_slices() -> None:
    rows = list(range(10))
    for text, expected in (
        ("train", rows), ("train[:3]", rows[:3]), ("train[7:]", rows[7:]), ("train[-2:]", rows[-2:]),
        ("train[:25%]", rows[:2]), ("train[25%:]", rows[2:]), ("train[2:50%]", rows[2:5]),
    ):  # fmt: skip
        assert part_of(text).of(rows) == expected


def test_named_splits_files_and_subfolders(tmp_path: Path) -> None:
    for config in ("algebra", "geometry"):
        write_source(
            _made(tmp_path / config),
            [gsm_row(n) for n in range(9)] if config == "algebra" else [gsm_row(n) for n in range(9, 20)],
            [gsm_row(30 + len(config))],
        )
    (tmp_path / "extra").mkdir()
    pandas.DataFrame([{"question": "1+1?", "answer": 2}]).to_csv(tmp_path / "extra" / "olympiad.csv")

    def sizes(*overrides: str) -> tuple[int, int]:
        source = dataset.load(profile_for(tmp_path, *overrides))
        return len(source.train), len(source.test)

    assert sizes() == (20, 2)
    assert sizes("data.config=algebra") == (9, 1)
    assert sizes("data.config=algebra,geometry") == (20, 2)
    assert sizes("data.test_split=olympiad") == sizes("data.test_split=extra/olympiad.csv") == (20, 1)
    with pytest.raises(DataError, match=r"data.config number_theory: no such folder"):
        check_source(profile_for(tmp_path, "data.config=number_theory"))
    with pytest.raises(DataError, match=r"no split 'hard' there; give .*JSON lines .*CSV.*Parquet"):
        check_source(profile_for(tmp_path, "data.test_split=hard"))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Hub:
    """A hub set with configurations and splits; raises what `datasets` raises."""

    def __init__(self, splits: dict[str | None, dict[str, int]]) -> None:
        self.splits = splits

    def load_dataset(self, name: str, configuration: str | None, *, split: str, revision: str) -> Any:
        if configuration not in self.splits:
            raise ValueError(f"BuilderConfig '{configuration}' not found. Available: {list(self.splits)}")
        found = self.splits[configuration]
        if split not in found:
            raise ValueError(f'Unknown split "{split}". Should be one of {list(found)}.')
        start = 100 * list(self.splits).index(configuration) + 50 * list(found).index(split)
        return datasets.Dataset.from_list(
            [{"problem": f"{n}+1?", "answer": n + 1} for n in range(start, start + found[split])]
        )


def hub_profile(*overrides: str) -> Profile:
    return load(
        "qwen2.5-math-1.5b",
        [
            "data.source=math-ai/aime",
            "data.revision=" + "a" * 40,
            "traces.source=solutions",
            "data.validation_rows=2",
            "eval.shots=0",
            *overrides,
        ],
    )


def test_hub_sets_with_a_test_split_alone_named_splits_and_configurations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub({None: {"test": 30}, "hard": {"problems": 20, "held_out": 10}})
    monkeypatch.setattr(datasets, "load_dataset", hub.load_dataset)
    source = dataset.load(hub_profile())
    assert (len(source.train), len(source.test)) == (0, 30)
    named = hub_profile("data.config=hard", "data.train_split=problems", "data.test_split=held_out[:5]")
    source = dataset.load(named)
    assert (len(source.train), len(source.test)) == (20, 5)
    with pytest.raises(DataError, match=r"BuilderConfig 'easy' not found.*see data.config, data.train_split"):
        dataset.load(hub_profile("data.config=easy"))
    with pytest.raises(DataError, match="the hub set has no split 'held_out'; set data.test_split"):
        dataset.load(hub_profile("data.test_split=held_out"))
    context, _ = make_context(tmp_path / "home", hub_profile())
    for plan, complaint in (("eval", ""), ("grpo", "has no split 'train' for stage grpo")):
        context.folder.config.write_text(json.dumps({"plan": [{"stage": plan, "arm": ""}]}))
        if not complaint:
            data.run(context)
            continue
        with pytest.raises(StageFailed, match=complaint):
            data.run(context)
    keys = [
        (locations.data_key(profile), locations.answers_key(profile))
        for profile in (hub_profile(), hub_profile("data.config=hard"), named)
    ]
    assert len({key for key, _ in keys}) == 3, "another part of the set is another input"
    assert len({key for _, key in keys}) == 2, (
        "answers follow from the questions, whichever split they are in"
    )
