"""The worker's CPU generator with a real model against `model.generate` and plain forward passes."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from engine.generators.build import build
from engine.protocol.messages import (
    Completion,
    Job,
    Prompt,
    Sampling,
    Stop,
    WeightRef,
    WorkerRequest,
    WorkerResult,
)
from engine.worker import Worker
from profiles.load import load as load_profile
from store.records import Record
from tests.support import real_model

pytestmark = real_model.marks

QUESTIONS = (  # of different lengths: some answers end by themselves, some are cut off
    "What is 2 + 3? Answer with the number only.",
    "What is the capital of France?",
    "Nora reads 20 pages a day. How many pages does she read in 5 days? Think step by step.",
    "Say hello.",
    "Name the days of the week in a list, one a line.",
    "A baker makes 12 loaves in the morning and half as many after lunch. How many does he make that day?",
)
LIMIT = 16
STOPS = ("\n", " of")


class OneTrainer:
    """Stands for the worker's process: hands over `jobs`, then asks it to stop; keeps the results."""

    def __init__(self, jobs: list[Job]) -> None:
        self._requests: deque[WorkerRequest] = deque([*jobs, Stop()])
        self.found: list[WorkerResult] = []
        self.jobs: Any = self
        self.results: Any = self

    def get(self, timeout: float | None = None) -> WorkerRequest | None:
        return None if timeout == 0.0 else self._requests.popleft()

    def put(self, result: WorkerResult) -> None:
        self.found.append(result)

    def emit(self, record: Record) -> None:
        return None

    def await_trainer(self) -> bool:
        return False


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    tokenizer = real_model.tokenizer()
    return [
        list(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question}],
                tokenize=True,
                add_generation_prompt=True,
                return_dict=False,
            )
        )
        for question in QUESTIONS
    ]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return real_model.plain_model().eval()


@pytest.fixture(scope="module")
def completions(prompts: list[list[int]]) -> dict[tuple[int, int], Completion]:
    """By job and prompt: greedy, greedy with stop strings, sampled at a temperature and a nucleus."""
    profile = load_profile("demo", (f"model.source={real_model.FOLDER}", 'arms=[{name="base",stage="none"}]'))
    weights = WeightRef("base", 0, str(real_model.FOLDER))
    asked = tuple(
        Prompt(f"q{place}", place, np.array(ids, np.int32), "5") for place, ids in enumerate(prompts)
    )
    samplings = (Sampling(0.0, LIMIT), Sampling(0.0, LIMIT, stop=STOPS), Sampling(0.7, LIMIT))
    jobs = [
        Job(number, "evaluation", 0, weights, asked, 1, sampling, seed=3)
        for number, sampling in enumerate(samplings)
    ]
    trainer = OneTrainer(jobs)
    Worker(trainer, lambda: build(profile, str(real_model.FOLDER), lambda *_: None)).serve()
    return {(done.job_id, done.prompt): done for done in trainer.found if isinstance(done, Completion)}


def generated(model: PreTrainedModel, prompt: list[int], **settings: Any) -> list[int]:
    """What transformers' own greedy search appends to `prompt`."""
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=LIMIT,
            do_sample=False,
            pad_token_id=0,
            **settings,
        )
    return found[0, len(prompt) :].tolist()


def test_greedy_answers_are_those_of_generate(
    model: PreTrainedModel, prompts: list[list[int]], completions: dict[tuple[int, int], Completion]
) -> None:
    ends = set()
    for place, prompt in enumerate(prompts):
        expected = generated(model, prompt)
        done = completions[0, place]
        assert done.token_ids.tolist() == expected
        assert done.text == real_model.tokenizer().decode(expected, skip_special_tokens=True)
        ends.add(done.finish)
    assert ends == {"stop", "length"}, "the questions need both ends"


def test_stop_strings_end_an_answer_where_generate_ends_it(
    model: PreTrainedModel, prompts: list[list[int]], completions: dict[tuple[int, int], Completion]
) -> None:
    tokenizer = real_model.tokenizer()
    stopped = 0
    for place, prompt in enumerate(prompts):
        expected = generated(model, prompt, stop_strings=list(STOPS), tokenizer=tokenizer)
        done = completions[1, place]
        assert done.token_ids.tolist() == expected
        text = tokenizer.decode(expected, skip_special_tokens=True)
        cut = min([text.find(stop) for stop in STOPS if stop in text], default=len(text))
        assert done.text == text[:cut]
        stopped += cut < len(text)
    assert stopped >= 2, "the questions need answers that hold a stop string"


@pytest.mark.parametrize(("job", "temperature"), [(0, 1.0), (2, 0.7)])
def test_logprobs_are_those_of_a_plain_forward(
    model: PreTrainedModel,
    prompts: list[list[int]],
    completions: dict[tuple[int, int], Completion],
    job: int,
    temperature: float,
) -> None:
    for place, prompt in enumerate(prompts):
        done = completions[job, place]
        answer = torch.from_numpy(done.token_ids.astype(np.int64))
        with torch.inference_mode():
            logits: Tensor = model(torch.tensor([[*prompt, *answer.tolist()]])).logits[0]
        logprobs = (logits[len(prompt) - 1 : -1] / temperature).log_softmax(-1)
        expected = logprobs.gather(1, answer[:, None])[:, 0]
        np.testing.assert_allclose(done.logprobs, expected.numpy(), atol=1e-4)
