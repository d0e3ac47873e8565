"""A real experiment of seconds: naming the second number, a Qwen2 of ten thousand parameters, the real engine."""

from __future__ import annotations

import json
import select
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from engine.plan import STAGES
from engine.startup import launch
from profiles.load import load
from store.home import RunFolder
from store.journal import read
from store.records import Example, Scalar

PATIENCE = 240.0
PROFILE = """
name = "second"
[model]
source = "{folder}/model"
compute_dtype = "float32"
[hardware]
trainer = "cpu"
worker = "cpu"
generator = "transformers"
trainer_threads = 1
worker_threads = 1
max_model_len = 64
trainer_restarts = 20
worker_restarts = 20
[data]
source = "{folder}/rows"
validation_rows = 20
[traces]
source = "solutions"
[preprocess]
template = "plain"
system_prompt = ""
[sft]
learning_rate = 5e-3
steps = 160
batch_size = 32
validate_every = 20
validation_rows = 20
checkpoint_every = 16
[grpo]
learning_rate = 5e-4
steps = 8
prompts_per_step = 8
group_size = 4
max_new_tokens = 8
validate_every = 3
validation_rows = 20
checkpoint_every = 3
[eval]
max_new_tokens = 8
[[arms]]
name = "base"
stage = "none"
[[arms]]
name = "sft"
stage = "sft"
parent = "base"
[[arms]]
name = "sft+grpo"
stage = "grpo"
parent = "sft"
"""


def make_inputs(folder: Path) -> Path:
    """Rows, model and profile in `folder`; returns the profile's path."""
    _make_rows(folder / "rows")
    _make_model(folder / "model")
    path = folder / "seconds.toml"
    path.write_text(PROFILE.format(folder=folder))
    return path


def start(home: Path, profile: Path, *settings: str) -> RunFolder:
    """Starts every stage."""
    return RunFolder(home, launch.start_run(home, load(str(profile), settings), STAGES, 0))


def finish(folder: RunFolder) -> None:
    """Waits until no supervisor holds the run."""
    until(lambda: not launch.is_alive(folder.home, folder.run_id), "the run has ended")


def until(true: Callable[[], object], what: str) -> None:
    """Waits until `true()`; fails after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s in vain until {what}"
        select.select([], [], [], 0.02)


def bars(folder: RunFolder) -> list[str]:
    """Logs of the run that hold a library's progress bar: a line that is redrawn, or a rate."""
    marks = ("\r", "it/s", "s/it", "%|")
    texts = {path.name: path.read_bytes().decode() for path in folder.logs.iterdir()}
    return [name for name, text in texts.items() if any(mark in text for mark in marks)]


def scalars(folder: RunFolder) -> list[Scalar]:
    """What the run has journaled of its metrics."""
    return [record for record in read(folder.journal)[0] if isinstance(record, Scalar)]


def examples(folder: RunFolder) -> list[Example]:
    """What the run has journaled of its completions."""
    return [record for record in read(folder.journal)[0] if isinstance(record, Example)]


def _make_rows(folder: Path) -> None:
    folder.mkdir(parents=True)
    everything = [(a, b) for a in range(16) for b in range(16)]
    held_out = [pair for place, pair in enumerate(everything) if place % 7 == 0]
    for name, pairs in (("test", held_out), ("train", [pair for pair in everything if pair not in held_out])):
        lines = [{"question": f"{a} + {b}", "answer": f"#### {b}"} for a, b in pairs]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


WORDS = ["<end>", "<other>", "Question:", "Answer:", "+", "####", *map(str, range(31))]


def model_config() -> Qwen2Config:
    """The experiment's model."""
    return Qwen2Config(
        vocab_size=len(WORDS),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        eos_token_id=0,
        bos_token_id=None,
        pad_token_id=None,
    )


def _make_model(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<other>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    Qwen2ForCausalLM(model_config()).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", unk_token="<other>"
    ).save_pretrained(folder)
