"""Our generators as lm-eval models, against lm-eval's own Hugging Face model with the same weights."""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance

from engine.data.tokenizer import load_tokenizer
from engine.generators.copies import GeneratorCopies
from engine.generators.interface import Generator
from engine.generators.scoring import ScoringRequest, readings
from engine.generators.transformers import TransformersGenerator
from engine.lm_eval_suite.model import GeneratorModel
from engine.protocol.messages import WeightRef
from profiles.load import load as load_profile
from tests.support import tiny_qwen2

LONGEST = 240
LIMIT = 12
Answers = tuple[list[tuple[float, bool]], list[float], list[str]]


def words(*numbers: int) -> str:
    return " ".join(f"w{number}" for number in numbers)


def scored() -> list[tuple[str, str]]:
    """Contexts and continuations: choices of one word, of several, no context, and a context that is too long."""
    rng = np.random.default_rng(5)
    question = words(*rng.integers(2, 90, size=30))
    pairs = [(question, " " + words(choice)) for choice in (3, 4, 5, 3)]
    pairs += [(question, " " + words(*rng.integers(2, 90, size=size))) for size in (2, 5, 9)]
    pairs += [("", words(7, 8, 9)), (words(*rng.integers(2, 90, size=300)), " " + words(10, 11))]
    return pairs


def documents() -> list[str]:
    rng = np.random.default_rng(6)
    return [words(*rng.integers(2, 90, size=size)) for size in (1, 50, 600)]


def questions(stop: str) -> list[tuple[str, dict[str, Any]]]:
    rng = np.random.default_rng(7)
    texts = [words(*rng.integers(2, 90, size=size)) for size in (3, 40, 150)]
    asked: list[tuple[str, dict[str, Any]]] = [
        (text, {"until": [stop], "max_gen_toks": LIMIT}) for text in texts
    ]
    return [*asked, (texts[0], {"until": "never", "max_gen_toks": 5, "do_sample": False, "temperature": 0.0})]


def instances(kind: str, arguments: list[Any]) -> list[Instance]:
    return [Instance(kind, {}, each, place) for place, each in enumerate(arguments)]


def answers(model: Any, stop: str) -> Answers:
    """What a model of lm-eval says to all of it."""
    return (
        model.loglikelihood(instances("loglikelihood", scored())),
        model.loglikelihood_rolling(instances("loglikelihood_rolling", [(text,) for text in documents()])),
        model.generate_until(instances("generate_until", questions(stop))),
    )


def same(found: Answers, expected: Answers) -> None:
    assert [greedy for _, greedy in found[0]] == [greedy for _, greedy in expected[0]]
    assert [value for value, _ in found[0]] == pytest.approx([value for value, _ in expected[0]], abs=1e-3)
    assert found[1] == pytest.approx(expected[1], rel=1e-5, abs=1e-3)
    assert [text.strip() for text in found[2]] == [text.strip() for text in expected[2]]


def build(folder: Path) -> Generator:
    torch.set_num_threads(1)
    generator = TransformersGenerator(folder, "cpu", torch.float32, 32, LONGEST)
    generator.load(WeightRef("base", 0, str(folder)))
    return generator


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, Answers]]:
    """A model's folder, a word at which it stops in the middle of an answer, and what lm-eval's own model says."""
    from lm_eval.models.huggingface import HFLM

    folder = tmp_path_factory.mktemp("model")
    model = tiny_qwen2.make(folder, seed=3)
    tokenizer = load_tokenizer(folder)
    tokenizer.pad_token = tokenizer.eos_token  # else it adds one, for which the model has no row
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, max_length=LONGEST, batch_size=1)
    unstopped = theirs.generate_until(instances("generate_until", questions("never")))
    stop = unstopped[1].split()[4] + " "  # of the second question
    yield folder, stop, answers(theirs, stop)


def test_transformers_scores_and_answers_as_lm_evals_own_model(world: tuple[Path, str, Answers]) -> None:
    folder, stop, expected = world
    calls: list[int] = []
    generator = build(folder)
    same(answers(GeneratorModel(generator, lambda: calls.append(1), window=LONGEST), stop), expected)
    assert len(calls) > LIMIT  # the worker can look for a stop between two tokens
    assert len(expected[2][1].split()) == 4  # the stop string was met
    assert len(expected[2][3].split()) == 5  # the limit arrived
    generator.close()


def test_copies_score_and_answer_alike(
    world: tuple[Path, str, Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, stop, expected = world
    monkeypatch.setattr("engine.generators.copies.SCORED_AT_A_TIME", 2)
    copies = GeneratorCopies([partial(build, folder)] * 2)
    same(answers(GeneratorModel(copies, window=LONGEST), stop), expected)
    next(copies.score([ScoringRequest(np.arange(1, 6, dtype=np.int32), 2)] * 9))  # left alone after a round
    same(answers(GeneratorModel(copies, window=LONGEST), stop), expected)
    copies.close()


def _vllm_child(folder: Path, stop: str, pipe: Connection[Any, Any]) -> None:
    from engine.generators.vllm import VllmGenerator

    settings = ("hardware.generator=vllm", f"hardware.max_model_len={LONGEST}", "hardware.max_sequences=32")
    generator = VllmGenerator(folder, load_profile("demo", settings).hardware, "float32", lambda *_: None)
    generator.load(WeightRef("base", 0, str(folder)))
    pipe.send(answers(GeneratorModel(generator, window=LONGEST), stop))
    generator.close()


@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_scores_and_answers_as_lm_evals_own_model(world: tuple[Path, str, Answers]) -> None:
    folder, stop, expected = world
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    child = spawn.Process(target=_vllm_child, args=(folder, stop, there))
    child.start()
    there.close()
    found = here.recv()
    child.join(60)
    assert child.exitcode == 0
    same(found, expected)


def test_choices_of_one_token_are_read_once() -> None:
    texts = [np.array([*range(1, 9), last], dtype=np.int32) for last in (20, 21, 22)]
    one = readings([ScoringRequest(ids, 8) for ids in texts])
    assert [(found.places, found.last_ids) for found in one] == [([0, 1, 2], [20, 21, 22])]
    assert len(readings([ScoringRequest(ids, 5) for ids in texts])) == 3
