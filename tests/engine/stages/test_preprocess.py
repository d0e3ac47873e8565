"""From rows to token ids: templates, ends, cuts, few-shot examples; and the whole of GSM8K against the clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from engine.artifacts import digests
from engine.context import Context, StageFailed
from engine.data import inputs
from engine.data.cache import building
from engine.data.prompts import worked
from engine.data.rows import DataRow
from engine.data.sequence import TokenSequence
from engine.data.token_rows import TokenRows, write_lines, write_rows
from engine.stages import data, preprocess, traces
from profiles.load import load
from store.records import Record
from tests.support.places import ROOT, SHARED
from tests.support.stage_context import gsm_row, lines_of, make_context, write_source

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="MATHRL_SHARED names no folder")
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(folder: Path, texts: list[str], size: int, chat: bool = True) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")  # type: ignore[no-untyped-call]
    if chat:
        fast.chat_template = CHAT
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [gsm_row(n) for n in range(40)]
    texts = [row["question"] + row["answer"] for row in rows]
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"), texts, 400)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(
        tmp_path / "source", [gsm_row(n) for n in range(40)], [gsm_row(n) for n in range(100, 110)]
    )


def run_all(home: Path, tokenizer: Path, source: Path, *overrides: str) -> tuple[Context, list[Record]]:
    profile = load(
        "qwen2.5-math-1.5b",
        [f"data.source={source}", f"model.source={tokenizer}", "traces.source=solutions", "data.validation_rows=5",
         "eval.shots=[0]", "eval.templates=[]", *overrides],
    )  # fmt: skip
    context, told = make_context(home, profile)
    for stage in (data, traces, preprocess):
        stage.run(context)
    return context, told


def decoded(tokenizer: Path, ids: Any) -> str:
    return str(AutoTokenizer.from_pretrained(tokenizer).decode(list(ids)))


def test_a_sequence_is_prompt_answer_and_end(tmp_path: Path, tokenizer: Path, source: Path) -> None:
    context, _ = run_all(tmp_path / "home", tokenizer, source)
    sequences, prompts = inputs.sequences(context), inputs.prompts(context, "train")
    assert len(sequences) == len(prompts) == 35
    end = AutoTokenizer.from_pretrained(tokenizer).eos_token_id
    for sequence, prompt, row in zip(sequences, prompts, inputs.rows(context, "train"), strict=True):
        assert isinstance(sequence, TokenSequence) and sequence.token_ids.dtype == np.int32
        assert sequence.token_ids[: sequence.prompt_length].tolist() == prompt.token_ids.tolist()
        assert sequence.finished and sequence.token_ids[-1] == end
        assert (sequence.token_ids[:-1] != end).all(), "one end, at the end"
        number = int(row.answer) - 1
        answer = f"{number} + 1 = {number + 1}\n\n\\boxed{{{number + 1}}}<|endoftext|>"
        assert decoded(tokenizer, sequence.token_ids[sequence.prompt_length :]) == answer
        assert (prompt.ex_id, prompt.gold) == (row.ex_id, row.answer)


def test_chat_prompts_are_those_of_the_tokenizer(tmp_path: Path, tokenizer: Path, source: Path) -> None:
    context, _ = run_all(tmp_path / "home", tokenizer, source)
    own = AutoTokenizer.from_pretrained(tokenizer)
    instruction = context.profile.preprocess.system_prompt
    for split in ("validation", "test"):
        prompts = inputs.prompts(context, split)
        assert [prompt.index for prompt in prompts] == list(range(len(prompts)))
        for prompt, row in zip(prompts, inputs.rows(context, split), strict=True):
            messages = [{"role": "system", "content": instruction}, {"role": "user", "content": row.question}]
            expected = own.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
            assert prompt.token_ids.tolist() == expected


def test_the_plain_form(tmp_path: Path, tokenizer: Path, source: Path) -> None:
    context, _ = run_all(
        tmp_path / "home", tokenizer, source, "preprocess.template=plain", "preprocess.system_prompt=''"
    )
    prompt, sequence = inputs.prompts(context, "train")[0], inputs.sequences(context)[0]
    question = inputs.rows(context, "train")[0].question
    assert prompt.text == decoded(tokenizer, prompt.token_ids) == f"Question: {question}\nAnswer:"
    number = int(prompt.gold)
    answer = decoded(tokenizer, sequence.token_ids[sequence.prompt_length :])
    assert answer == f" {number - 1} + 1 = {number}\n#### {number}<|endoftext|>"


def test_few_shot_examples_come_from_training_and_stay_out_of_it(
    tmp_path: Path, tokenizer: Path, source: Path
) -> None:
    overrides = ("eval.shots=[0, 3]", "eval.templates=['chat', 'plain']", "preprocess.system_prompt=''")
    context, _ = run_all(tmp_path / "home", tokenizer, source, *overrides)
    shots = inputs.rows(context, "shots")
    assert len(shots) == 3
    card = json.loads((context.folder.path / "data_card.json").read_text())
    assert card["few_shot_examples"] == [row.ex_id for row in shots]
    trained = {row.ex_id for row in inputs.rows(context, "train")}
    assert trained.isdisjoint(row.ex_id for row in shots) and len(trained) == 32
    for prompt in inputs.prompts(context, "test", template="plain", shots=3):
        parts = prompt.text.split("\n\n")
        assert [part.split("\nAnswer: ")[0] for part in parts[:-1]] == [
            f"Question: {row.question}" for row in shots
        ]
        assert [part.rsplit("#### ", 1)[1] for part in parts[:-1]] == [row.answer for row in shots]
        assert parts[-1].endswith("\nAnswer:")
    chat = inputs.prompts(context, "test", template="chat", shots=3)[0].text
    assert chat.count("<|im_start|>assistant\n") == 4
    assert len(inputs.prompts(context, "test", template="plain")) == 10
    with pytest.raises(StageFailed, match="preprocess made no prompts prompts-test-plain-5"):
        inputs.prompts(context, "test", template="plain", shots=5)


def test_what_is_too_long_is_cut_and_counted(tmp_path: Path, tokenizer: Path, source: Path) -> None:
    whole, _ = run_all(tmp_path / "whole", tokenizer, source)
    sizes = [len(sequence.token_ids) for sequence in inputs.sequences(whole)]
    prompts = [sequence.prompt_length for sequence in inputs.sequences(whole)]
    most = int(np.median(sizes))
    context, _ = run_all(tmp_path / "cut", tokenizer, source, f"preprocess.max_tokens={most}")
    report = json.loads((inputs.preprocess_folder(context) / "report.json").read_text())
    assert 0 < report["sequences"]["cut"] == sum(size > most for size in sizes) < 35
    end = AutoTokenizer.from_pretrained(tokenizer).eos_token_id
    for sequence, size in zip(inputs.sequences(context), sizes, strict=True):
        assert len(sequence.token_ids) == min(size, most)
        assert sequence.finished is (size <= most) is bool(sequence.token_ids[-1] == end)
    tight = sorted(prompts)[10]
    context, _ = run_all(tmp_path / "tight", tokenizer, source, f"preprocess.max_tokens={tight}")
    report = json.loads((inputs.preprocess_folder(context) / "report.json").read_text())
    assert (
        report["sequences"]["no_room"]
        == sum(length >= tight for length in prompts)
        == 35 - len(inputs.sequences(context))
    )
    with pytest.raises(StageFailed, match="raise it"):
        run_all(tmp_path / "none", tokenizer, source, "preprocess.max_tokens=2")


def test_a_prompt_that_leaves_no_room_for_a_completion_loses_its_beginning(
    tmp_path: Path, tokenizer: Path, source: Path
) -> None:
    limits = ("hardware.max_model_len=50", "eval.max_new_tokens=20", "grpo.max_new_tokens=10")
    context, told = run_all(tmp_path / "home", tokenizer, source, *limits)
    (warning,) = [line for line in lines_of(told, "log") if line.payload["level"] == "warning"]
    assert "longer than 30 tokens lost their beginning" in warning.message
    assert "10 of prompts-test-chat-0" in warning.message
    whole, _ = run_all(tmp_path / "whole", tokenizer, source)
    for prompt, full in zip(inputs.prompts(context, "test"), inputs.prompts(whole, "test"), strict=True):
        assert prompt.token_ids.tolist() == full.token_ids.tolist()[-30:]
    report = json.loads((inputs.preprocess_folder(context) / "report.json").read_text())
    assert report["prompts"]["prompts-test-chat-0"]["cut"] == 10


def test_an_unfinished_trace_has_no_end(tmp_path: Path, tokenizer: Path, source: Path) -> None:
    context, _ = run_all(tmp_path / "home", tokenizer, source, "preprocess.max_tokens=500")
    lines = [json.loads(line) for line in (inputs.traces_folder(context) / "traces.jsonl").open()]
    lines[3]["finished"] = False
    other, _ = make_context(tmp_path / "other", context.profile)
    data.run(other)
    with building(inputs.traces_folder(other)) as folder:
        write_lines(folder / "traces.jsonl", lines)
    preprocess.run(other)
    before, after = inputs.sequences(context)[3], inputs.sequences(other)[3]
    assert before.finished and not after.finished
    assert after.token_ids.tolist() == before.token_ids.tolist()[:-1]
    assert inputs.sequences(other)[4].finished


def test_marked_traces_are_kept_and_not_trained_on(tmp_path: Path, tokenizer: Path, source: Path) -> None:
    counts = {}
    for choice in ("keep", "mark"):
        overrides = (f"traces.wrong_answers={choice}", "preprocess.max_tokens=2047")
        context, _ = run_all(tmp_path / "home", tokenizer, source, *overrides)
        path = inputs.traces_folder(context) / "traces.jsonl"
        lines = [json.loads(line) for line in path.open()]
        lines[3]["correct"] = False
        write_lines(path, lines)
        digests.write_list(path.parent, {})
        context, _ = run_all(tmp_path / "home", tokenizer, source, overrides[0])
        report = json.loads((inputs.preprocess_folder(context) / "report.json").read_text())
        counts[choice] = (len(inputs.traces(context)), len(inputs.sequences(context)), report["marked_wrong"])
    assert counts == {"keep": (35, 35, 0), "mark": (35, 34, 1)}


def test_work_already_done_is_skipped(tmp_path: Path, tokenizer: Path, source: Path) -> None:
    context, _ = run_all(tmp_path / "home", tokenizer, source)
    made = (inputs.preprocess_folder(context) / "sequences.tokens.npy").stat()
    _, told = run_all(tmp_path / "home", tokenizer, source)
    skipped = [(event.stage, event.payload["status"]) for event in lines_of(told, "stage")]
    assert skipped == [("data", "skipped"), ("traces", "skipped"), ("preprocess", "skipped")]
    assert (inputs.preprocess_folder(context) / "sequences.tokens.npy").stat().st_mtime_ns == made.st_mtime_ns
    for override in (
        "preprocess.max_tokens=200",
        "preprocess.template=plain",
        "eval.shots=[1]",
        "data.validation_rows=6",
    ):
        _, told = run_all(tmp_path / "home", tokenizer, source, override)
        assert "preprocess" not in [event.stage for event in lines_of(told, "stage")], override


def test_another_tokenizer_is_another_input(tmp_path: Path, tokenizer: Path, source: Path) -> None:
    other = make_tokenizer(tmp_path / "tokenizer", ["apples"], 300)
    first, _ = run_all(tmp_path / "home", tokenizer, source)
    second, told = run_all(tmp_path / "home", other, source)
    assert inputs.preprocess_folder(first) != inputs.preprocess_folder(second)
    assert [event.stage for event in lines_of(told, "stage")] == ["data", "traces"]


def test_another_end_token_is_another_input(tmp_path: Path, source: Path) -> None:
    """Older models name it beside their tokenizer_config.json."""
    folder, ends = make_tokenizer(tmp_path / "tokenizer", ["apples"], 300), []
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for end in ("<|endoftext|>", "<|im_end|>"):
        (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": end}))
        inputs._tokenizer.cache_clear()
        context, _ = run_all(tmp_path / "home", folder, source)
        ends.append(decoded(folder, inputs.sequences(context)[0].token_ids[-1:]))
    assert ends == ["<|endoftext|>", "<|im_end|>"]


def test_a_model_folder_may_be_named_from_the_persons_home(
    tmp_path: Path, tokenizer: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tokenizer.parent))
    named, _ = run_all(tmp_path / "home", Path("~") / tokenizer.name, source)
    whole, _ = run_all(tmp_path / "home", tokenizer, source)
    assert inputs.preprocess_folder(named) == inputs.preprocess_folder(whole)


REVISIONS = """
import sys
from pathlib import Path
from tests.support.stage_context import make_context
from engine.data import inputs
from profiles.load import load
for revision in sys.argv[2:]:
    profile = load("qwen2.5-math-1.5b", ["model.source=a/b", f"model.revision={revision}"])
    print(len(inputs.tokenizer(make_context(Path(sys.argv[1]), profile)[0])))
"""


def test_a_pinned_revision_is_that_of_the_tokenizer_too(tmp_path: Path) -> None:
    hub = tmp_path / "hub" / "models--a--b"
    for commit, size in (("a" * 40, 300), ("b" * 40, 320)):
        make_tokenizer(hub / "snapshots" / commit, [gsm_row(n)["answer"] for n in range(99)], size)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("a" * 40)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-c", REVISIONS, str(tmp_path / "home"), "main", "b" * 40]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["300", "320"], done.stderr


def test_faults_are_one_line(tmp_path: Path, source: Path) -> None:
    bare = make_tokenizer(tmp_path / "bare", ["apples"], 300, chat=False)
    with pytest.raises(StageFailed, match="no chat template; set preprocess.template=plain"):
        run_all(tmp_path / "home", bare, source)
    with pytest.raises(StageFailed, match="tokenizer of") as caught:
        run_all(tmp_path / "home", source, source)
    assert "\n" not in str(caught.value)
    leftovers = list((tmp_path / "home" / "cache").glob("preprocess/*"))
    assert leftovers == []


def test_solutions_take_the_form_that_the_instruction_asks_for() -> None:
    row = DataRow("a", "?", "2*500 = $<<2*500=1000>>1,000 in all.\n#### 1,000", "1,000")
    assert worked(row, "") == "2*500 = $1,000 in all.\n#### 1,000"
    assert worked(row, "Use \\boxed{}.") == "2*500 = $1,000 in all.\n\n\\boxed{1,000}"


def test_a_limit_takes_as_many_own_solutions_and_leaves_the_questions(
    tmp_path: Path, tokenizer: Path, source: Path
) -> None:
    """Few worked solutions, which are dear, against many questions whose answer is known."""
    context, _ = run_all(tmp_path / "home", tokenizer, source)
    few, _ = run_all(tmp_path / "home", tokenizer, source, "traces.limit=6")
    assert [len(inputs.traces(run)) for run in (context, few)] == [35, 6]
    assert [len(inputs.sequences(run)) for run in (context, few)] == [35, 6]
    assert [len(inputs.prompts(run, "train")) for run in (context, few)] == [35, 35]
    order = [trace.ex_id for trace in inputs.traces(context)]
    kept = [order.index(trace.ex_id) for trace in inputs.traces(few)]
    assert kept == sorted(kept) and kept != list(range(6))


def test_token_rows_on_disk(tmp_path: Path) -> None:
    rows = [[1, 2, 3], [], [2**31 - 1], list(range(1000))]
    write_rows(tmp_path, "some", rows)
    assert [row.tolist() for row in TokenRows(tmp_path, "some")] == rows
    with pytest.raises(IndexError):
        TokenRows(tmp_path, "some")[4]
    write_rows(tmp_path, "none", [])
    assert list(TokenRows(tmp_path, "none")) == []


@needs_shared
def test_whole_gsm8k_takes_less_than_a_minute(tmp_path: Path) -> None:
    folder = SHARED / "data/gsm8k"
    lines = [json.loads(line) for line in (folder / "train.jsonl").open()]
    tokenizer = make_tokenizer(tmp_path / "tokenizer", [line["answer"] for line in lines[:500]], 2000)
    began = time.perf_counter()
    context, told = run_all(
        tmp_path / "home",
        tokenizer,
        folder,
        "data.validation_rows=512",
        "eval.shots=[0, 8]",
        "eval.templates=['chat']",
    )
    assert time.perf_counter() - began < 60
    assert len(inputs.sequences(context)) == 7473 - 512 - 8
    assert len(inputs.prompts(context, "test", shots=8)) == 1319
    told_progress = [event.payload for event in lines_of(told, "progress") if event.stage == "preprocess"]
    assert told_progress[-1]["done"] == told_progress[-1]["total"] == 2 * 6953 + 512 + 2 * 1319
    assert all("eta_seconds" in payload for payload in told_progress)
