"""Token ids of prompts and answers against transformers itself, on tokenizers of every kind."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from transformers import AutoTokenizer

from engine.context import StageFailed
from engine.data import inputs
from engine.data.encoding import encode_answers, encode_prompts, encode_texts
from engine.data.prompts import answer_text, prompt_end, prompt_text
from engine.data.special_tokens import leading
from engine.data.tokenizer import load_tokenizer
from engine.generators.interface import Generator
from engine.lm_eval_suite.model import GeneratorModel
from tests.engine.stages.test_preprocess import run_all
from tests.support.odd_tokenizers import (
    AROUND,
    CHAT,
    CHAT_ENDS_IN_EOS,
    CHAT_ENDS_SPECIAL,
    CHAT_WITH_BOS,
    KINDS,
    build,
)
from tests.support.stage_context import gsm_row, write_source

QUESTION = "Ann has 4 apples, red, and buys one. How many?"
QUESTIONS = [QUESTION, "7 * ½ = ?", "Wie viele Äpfel 🍎 sind es?"]
ANSWERS = ["4 + 1 = 5\n#### 5", "So it is ½.\n\n\\boxed{½}", "🍎"]
CHATS = {"plain tokens": CHAT, "bos by the template": CHAT_WITH_BOS, "ends special": CHAT_ENDS_SPECIAL}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """Every kind of tokenizer with everything that may be put around a text, as transformers loads it."""
    folder = tmp_path_factory.mktemp("tokenizers")
    return {
        (kind, around): load_tokenizer(build(folder / kind / around, kind, around))
        for kind, around in itertools.product(KINDS, AROUND)
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("around", AROUND)
def test_a_plain_prompt_is_transformers_encoding_without_what_ends_it(
    tokenizers: dict[tuple[str, str], Any], kind: str, around: str
) -> None:
    tokenizer = tokenizers[kind, around]
    texts = [prompt_text(tokenizer, question, "plain") for question in QUESTIONS]
    for ids, text in zip(encode_prompts(tokenizer, texts, "plain"), texts, strict=True):
        theirs = tokenizer(text)["input_ids"]
        behind = 1 if around in ("eos", "bos and eos", "other") else 0
        assert ids == theirs[: len(theirs) - behind]
        assert tokenizer.eos_token_id not in ids
        assert ids.count(tokenizer.bos_token_id) == ("bos" in around)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("chat", CHATS)
def test_a_chat_prompt_is_apply_chat_template(
    tokenizers: dict[tuple[str, str], Any], kind: str, around: str, chat: str
) -> None:
    tokenizer = tokenizers[kind, around]
    tokenizer.chat_template = CHATS[chat]
    texts = [prompt_text(tokenizer, question, "chat") for question in QUESTIONS]
    expected = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
        )
        for question in QUESTIONS
    ]
    found = encode_prompts(tokenizer, texts, "chat")
    assert found == expected
    for ids in found:
        assert ids[-1] != tokenizer.eos_token_id
        assert ids.count(tokenizer.bos_token_id) == (chat != "plain tokens")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["plain", *CHATS])
def test_an_answer_continues_its_prompt(tokenizers: dict[tuple[str, str], Any], kind: str, form: str) -> None:
    """Joined, prompt and answer are what transformers makes of the whole text, and read as the whole text."""
    tokenizer = tokenizers[kind, "nothing"]
    template = "plain" if form == "plain" else "chat"
    tokenizer.chat_template = CHATS.get(form)
    texts = [answer_text(template, answer) for answer in ANSWERS]
    answers = encode_answers(tokenizer, texts, prompt_end(tokenizer, template))
    for question, text, answer in zip(QUESTIONS, texts, answers, strict=True):
        start = prompt_text(tokenizer, question, template)
        (prompt,) = encode_prompts(tokenizer, [start], template)
        joined = [*prompt, *answer]
        assert joined == tokenizer(start + text, add_special_tokens=False)["input_ids"]
        whole = tokenizer.decode(tokenizer(start + text, add_special_tokens=False)["input_ids"])
        assert tokenizer.decode(joined) == whole
        if form != "ends special":
            assert whole.endswith(start[-1] + text), "no space was put between prompt and answer"


def test_an_answer_that_would_merge_with_its_prompt_keeps_the_border(
    tokenizers: dict[tuple[str, str], Any],
) -> None:
    """`Answer: ` and `4` would become one piece; the prompt's ids stay those of generation, where no answer is."""
    tokenizer = tokenizers["llama", "nothing"]
    prompt = tokenizer("Answer: ", add_special_tokens=False)["input_ids"]
    assert tokenizer("Answer: 4", add_special_tokens=False)["input_ids"][: len(prompt)] != prompt
    (answer,) = encode_answers(tokenizer, ["4"], "Answer: ")
    assert tokenizer.decode([*prompt, *answer]) == "Answer: 4"


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_holds_no_end_that_its_text_spells(
    tokenizers: dict[tuple[str, str], Any], kind: str
) -> None:
    tokenizer = tokenizers[kind, "bos and eos"]
    (answer,) = encode_answers(tokenizer, [" 4 + 1 = 5</s> or so</s>"], "\nAnswer:")
    assert tokenizer.eos_token_id not in answer and tokenizer.bos_token_id not in answer
    assert tokenizer.decode(answer).split() == ["4", "+", "1", "=", "5", "or", "so"]


def test_a_template_without_a_generation_prompt_is_refused(
    tokenizers: dict[tuple[str, str], Any],
) -> None:
    tokenizer = tokenizers["byte level", "nothing"]
    tokenizer.chat_template = CHAT_ENDS_IN_EOS
    with pytest.raises(ValueError, match="ends a prompt with the end-of-sequence token"):
        encode_prompts(tokenizer, [prompt_text(tokenizer, QUESTION, "chat")], "chat")


@pytest.mark.parametrize("has_file", [True, False])
@pytest.mark.parametrize("ends", [True, False])
def test_settings_that_add_an_end_make_no_difference(tmp_path: Path, has_file: bool, ends: bool) -> None:
    """`add_eos_token` counts in some classes, with some files, in some versions: the ids tell, not the setting."""
    folder = build(tmp_path / "tokenizer", "llama", "bos and eos" if has_file else "nothing")
    path = folder / "tokenizer_config.json"
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": ends}
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    tokenizer = load_tokenizer(folder)
    if not has_file:
        tokenizer.add_bos_token, tokenizer.add_eos_token = True, ends
        assert tokenizer("4")["input_ids"][-1] == tokenizer.eos_token_id or not ends
    (ids,) = encode_prompts(tokenizer, ["Question: 4\nAnswer:"], "plain")
    theirs = AutoTokenizer.from_pretrained(folder)("Question: 4\nAnswer:", add_special_tokens=False)
    assert ids == [tokenizer.bos_token_id, *theirs["input_ids"]]


def test_special_tokens_are_told_from_the_text() -> None:
    assert leading([1, 5, 6, 2], [5, 6]) == [1]
    assert leading([1, 1, 5], [1, 5]) == [1], "the text may begin with BOS itself"
    assert leading([5, 6], [5, 6]) == []
    with pytest.raises(ValueError, match="change the text"):
        leading([1, 5, 9, 6], [5, 6])


@pytest.mark.parametrize("kind", ["byte level", "llama"])
def test_sequences_of_a_tokenizer_that_ends_every_text(tmp_path: Path, kind: str) -> None:
    """From the stage: BOS once, no end before the answer, one end behind it."""
    source = write_source(
        tmp_path / "source", [gsm_row(n) for n in range(20)], [gsm_row(n) for n in range(50, 55)]
    )
    folder = build(tmp_path / "tokenizer", kind, "bos and eos")
    settings = ("preprocess.template=plain", "preprocess.system_prompt=", "eval.shots=[0, 2]")
    context, _ = run_all(tmp_path / "home", folder, source, *settings)
    tokenizer = inputs.tokenizer(context)
    bos, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    for sequence in inputs.sequences(context):
        ids = sequence.token_ids.tolist()
        assert (ids[0], ids[-1], ids.count(bos), ids.count(end)) == (bos, end, 1, 1)
    for shots in (0, 2):
        for prompt in inputs.prompts(context, "test", shots=shots):
            ids = prompt.token_ids.tolist()
            assert (ids[0], ids.count(bos), ids.count(end)) == (bos, 1, 0)
    short = ("hardware.max_model_len=60", "eval.max_new_tokens=20", "grpo.max_new_tokens=10")
    context, _ = run_all(tmp_path / "home", folder, source, *settings, *short)
    for prompt, row in zip(inputs.prompts(context, "test"), inputs.rows(context, "test"), strict=True):
        whole = tokenizer(prompt_text(None, row.question, "plain"))["input_ids"][:-1]
        assert prompt.token_ids.tolist() == (whole if len(whole) <= 40 else [bos, *whole[-39:]])


def test_a_template_that_allows_no_answer_fails_the_stage_in_one_line(tmp_path: Path) -> None:
    source = write_source(
        tmp_path / "source", [gsm_row(n) for n in range(9)], [gsm_row(n) for n in range(50, 52)]
    )
    folder = build(tmp_path / "tokenizer", "byte level", chat=CHAT_ENDS_IN_EOS)
    with pytest.raises(
        StageFailed, match=r"preprocess: the chat template ends .* set preprocess\.template=plain"
    ):
        run_all(tmp_path / "home", folder, source)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("around", ["bos", "bos and eos"])
def test_the_suite_asks_as_lm_evals_own_model_does_without_the_end(
    tokenizers: dict[tuple[str, str], Any], kind: str, around: str
) -> None:
    """lm-eval's own model with a tokenizer that only adds BOS is the measure, for the one that adds both."""
    from lm_eval.models.huggingface import HFLM

    theirs = object.__new__(HFLM)
    theirs.tokenizer, theirs.add_bos_token = tokenizers[kind, "bos"], None
    theirs.custom_prefix_token_id, theirs.backend = None, "causal"
    tokenizer = tokenizers[kind, around]
    ours = GeneratorModel(cast(Generator, SimpleNamespace(tokenizer=tokenizer, longest=64)))
    pairs = [(QUESTION, " It is 5."), ("7 * ½ = ", "3"), ("<s>4 + 1 =", " 5")]
    ours._encode(pairs)
    assert [ours._encode_pair(*pair) for pair in pairs] == [theirs._encode_pair(*pair) for pair in pairs]
    assert ours.tok_encode("Some words") == theirs.tok_encode("Some words")
    assert encode_texts(tokenizer, [], special=True) == []
