"""Prompts and training sequences of a real model against its own tokenizer and chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.context import Context
from engine.data import inputs
from tests.support import real_model

pytestmark = real_model.marks

SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
SHOTS = 2


@pytest.fixture(scope="module", params=["", SYSTEM], ids=["no system prompt", "system prompt"])
def context(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Context:
    settings = (f"preprocess.system_prompt={request.param}", f"eval.shots=[0, {SHOTS}]")
    forms = 'eval.templates=["chat", "plain"]'
    return real_model.prepared(tmp_path_factory.mktemp("run"), *settings, forms)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return real_model.tokenizer()


def solution(question: str, system: str) -> str:
    """The written answer to a question of the training file, as the model is to give it."""
    text = real_model.without_marks(question)
    steps, answer = text.split("\n#### ")
    return f"{steps}\n\n\\boxed{{{answer}}}" if "boxed" in system else text


def conversation(context: Context, question: str, shots: list[str]) -> list[dict[str, str]]:
    system = context.profile.preprocess.system_prompt
    messages = [{"role": "system", "content": system}] if system else []
    for shot in shots:
        messages.append({"role": "user", "content": shot})
        messages.append({"role": "assistant", "content": solution(shot, system)})
    return [*messages, {"role": "user", "content": question}]


def by_template(tokenizer: Any, messages: list[dict[str, str]], is_prompt: bool = True) -> list[int]:
    found = tokenizer.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=is_prompt, return_dict=False
    )
    return list(found)


@pytest.mark.parametrize("shots", [0, SHOTS])
def test_chat_prompts_are_the_templates_own(context: Context, tokenizer: Any, shots: int) -> None:
    examples = [row.question for row in inputs.rows(context, "shots")][:shots]
    found = inputs.prompts(context, "test", template="chat", shots=shots)
    assert len(found) == len(real_model.TEST)
    for prompt, (question, _) in zip(found, real_model.TEST, strict=True):
        expected = by_template(tokenizer, conversation(context, question, examples))
        assert prompt.token_ids.tolist() == expected


@pytest.mark.parametrize("shots", [0, SHOTS])
def test_plain_prompts_have_no_end_and_at_most_one_beginning(
    context: Context, tokenizer: Any, shots: int
) -> None:
    beginning = [tokenizer.bos_token_id] if tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id else []
    system = context.profile.preprocess.system_prompt
    examples = [row.question for row in inputs.rows(context, "shots")][:shots]
    for prompt, (question, _) in zip(
        inputs.prompts(context, "test", template="plain", shots=shots), real_model.TEST, strict=True
    ):
        text = f"{system}\n\n" if system else ""
        text += "".join(f"Question: {shot}\nAnswer: {solution(shot, system)}\n\n" for shot in examples)
        text += f"Question: {question}\nAnswer:"
        assert prompt.token_ids.tolist() == beginning + tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.eos_token_id not in prompt.token_ids


def test_a_training_sequence_is_the_whole_conversation(context: Context, tokenizer: Any) -> None:
    questions = [row.question for row in inputs.rows(context, "train")]
    sequences = list(inputs.sequences(context))
    assert len(sequences) == len(questions) == len(real_model.TRAIN) - 1 - SHOTS
    for sequence, question in zip(sequences, questions, strict=True):
        asked = conversation(context, question, [])
        answer = solution(question, context.profile.preprocess.system_prompt)
        whole = by_template(tokenizer, [*asked, {"role": "assistant", "content": answer}], is_prompt=False)
        ends = max(place for place, token in enumerate(whole) if token == tokenizer.eos_token_id) + 1
        assert (
            sequence.token_ids.tolist() == whole[:ends]
        )  # the template's line break after it is not trained
        assert sequence.prompt_length == len(by_template(tokenizer, asked))
        assert sequence.finished


def test_plain_sequences_end_by_themselves(tokenizer: Any, tmp_path: Path) -> None:
    context = real_model.prepared(tmp_path, "preprocess.template=plain", "preprocess.system_prompt=")
    for sequence, row in zip(inputs.sequences(context), inputs.rows(context, "train"), strict=True):
        text = f"Question: {row.question}\nAnswer: {solution(row.question, '')}"
        ids = sequence.token_ids.tolist()
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert ids.count(tokenizer.eos_token_id) == 1 and ids[-1] == tokenizer.eos_token_id
