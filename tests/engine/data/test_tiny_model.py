"""The demo's tokenizer and model: nothing is lost, numbers are whole, and transformers loads what was made."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from engine.data.tiny_model import make_model, make_tokenizer
from engine.data.tokenizer import load_tokenizer
from engine.data.word_problems import problems
from profiles.load import load
from profiles.training import Pretrain

SAMPLES = (
    "She sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs for $1,234.50.\n#### 18",
    "  two  spaces,\ttab\r\n\r\nlines \n \n end ",
    "naïve café, e\u0301 and é, Ångström, 中文, العربية, 한국어, 👩‍👩‍👧‍👦, \u200b\ufeff\x00\x7f",
    "½ × 3 ≤ √4 − 5 · 10⁻³ ٣",
    "",
)


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(1024)


def test_any_text_comes_back() -> None:
    rng = random.Random(0)
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    drawn = ["".join(map(chr, rng.choices(codes, k=40))) for _ in range(300)]
    drawn += ["".join(map(chr, rng.choices(range(0x300), k=60))) for _ in range(300)]
    for text in [*SAMPLES, *drawn]:
        assert tokenizer().decode(tokenizer()(text)["input_ids"]) == text


def test_every_word_and_number_of_the_problems_is_one_token() -> None:
    rows = [*problems(11, 1000, "train"), *problems(11, 500, "test")]
    pieces = {
        piece for row in rows for piece in re.findall(r" [A-Za-z]+| \d+", f" {row.question} {row.solution}")
    }
    assert len([piece for piece in pieces if piece[1:].isdigit()]) > 30
    split = sorted(piece for piece in pieces if len(tokenizer()(piece)["input_ids"]) != 1)
    assert not split


def test_the_same_tokenizer_each_time() -> None:
    assert make_tokenizer(1024).get_vocab() == tokenizer().get_vocab()
    assert len(make_tokenizer(300)) == 300


def test_what_was_made_is_loaded_as_it_was(tmp_path: Path) -> None:
    shape = load("demo").pretrain
    model = make_model(shape, tokenizer(), seed=5)
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    again, text = load_tokenizer(tmp_path), SAMPLES[2]
    assert again(text)["input_ids"] == tokenizer()(text)["input_ids"]
    assert again.decode(again(text)["input_ids"]) == text
    assert again.eos_token_id == model.config.eos_token_id
    ids = torch.tensor([again("Question: How many?")["input_ids"]])
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(loaded(ids).logits, model.eval()(ids).logits)
    assert sum(weight.numel() for weight in loaded.parameters()) < 1_000_000


def test_weights_follow_from_the_seed_and_leave_the_global_generator_alone() -> None:
    shape, state = load("demo").pretrain, torch.get_rng_state()
    first, same, other = (make_model(shape, tokenizer(), seed).state_dict() for seed in (0, 0, 1))
    name = "model.embed_tokens.weight"
    assert torch.equal(first[name], same[name])
    assert not torch.equal(first[name], other[name])
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("width", [128, 192, 256])
def test_shapes_that_vllm_serves_are_made(width: int) -> None:
    model = make_model(Pretrain(width=width), tokenizer(), seed=0)
    assert model.model.layers[0].self_attn.head_dim in (32, 48, 64)


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ({"width": 96}, "vLLM on a CPU takes 32, 48 or 64"),
        ({"key_value_heads": 3}, "must divide pretrain.heads, 4"),
    ],
)
def test_shapes_that_cannot_be_served_are_refused(shape: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Pretrain(**shape)
