"""The vLLM adapter, through vLLM's CPU build in one spawned process, against transformers with the same weights."""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from transformers import Qwen2ForCausalLM

from engine.generators.interface import Generated, GenerationRequest, WeightsRefused, text_of
from engine.protocol.messages import Sampling, WeightRef
from engine.weight_sync.weights import WeightPublisher
from profiles.load import load as load_profile
from tests.support import tiny_qwen2

if TYPE_CHECKING:
    from engine.generators.vllm import VllmGenerator

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]

Places = dict[tuple[int, int], Generated]
SETTINGS = ("hardware.generator=vllm", "hardware.max_sequences=32", "hardware.max_model_len=240")
GREEDY, WARM, NUCLEUS = Sampling(0.0, 24), Sampling(0.7, 24), Sampling(1.0, 24, top_p=0.6)


@dataclass
class Seen:
    """What the child saw; the parent compares."""

    phases: list[str] = field(default_factory=list)
    answers: dict[str, Places] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    steps: list[list[tuple[int, int]]] = field(
        default_factory=list
    )  # finished completions of each engine step
    stopped_text: str = ""
    children: int = -1


def prompts() -> list[NDArray[np.int32]]:
    """Some of a few words, and one that fills whole blocks of the prefix cache."""
    rng = np.random.default_rng(7)
    sizes = [*rng.integers(2, 30, size=7), 200]
    return [rng.integers(1, tiny_qwen2.VOCABULARY, size=size).astype(np.int32) for size in sizes]


def job(samples: int) -> list[GenerationRequest]:
    return [
        GenerationRequest(index, sample, ids, 1000 * index + sample)
        for index, ids in enumerate(prompts())
        for sample in range(samples)
    ]


def run(generator: VllmGenerator, requests: list[GenerationRequest], sampling: Sampling) -> Places:
    steps = generator.generate(deque(requests), sampling)
    return {(done.prompt, done.sample): done for finished in steps for done in finished}


def _child(
    base: Path, wrong: list[WeightRef], published: WeightRef, stop: str, pipe: Connection[Any, Any]
) -> None:
    from engine.generators.vllm import VllmGenerator

    seen = Seen()
    hardware = load_profile("demo", SETTINGS).hardware
    generator = VllmGenerator(base, hardware, "float32", lambda phase, _: seen.phases.append(phase))
    generator.load(WeightRef("base", 0, str(base)))
    seen.answers["base"] = run(generator, job(1), GREEDY)
    generator.load(published)
    seen.answers["greedy"] = run(generator, job(1), GREEDY)
    for weights in wrong:
        try:
            generator.load(weights)
        except WeightsRefused as error:
            seen.refusals.append(str(error))
    seen.answers["after refusals"] = run(generator, job(1), GREEDY)
    seen.answers["warm"] = run(generator, job(4), WARM)
    seen.answers["warm again"] = run(generator, job(4)[::-1], WARM)
    seen.answers["nucleus"] = run(generator, job(4), NUCLEUS)
    abandoned = generator.generate(deque(job(4)), GREEDY)
    next(abandoned)
    abandoned.close()
    waiting = deque(job(2)[:8])
    late = job(2)[8:]
    for finished in generator.generate(waiting, Sampling(1.0, 24)):
        seen.steps.append([(done.prompt, done.sample) for done in finished])
        if finished and late:
            waiting.append(late.pop())
    stopped = run(generator, job(1), Sampling(0.0, 24, stop=(stop,)))
    seen.answers["stopped"] = stopped
    seen.stopped_text = text_of(generator.tokenizer, stopped[0, 0].token_ids, (stop,))
    generator.close()
    seen.children = len(psutil.Process().children(recursive=True))
    pipe.send(seen)


@dataclass
class World:
    """The child's answers and the models it had."""

    seen: Seen
    base: Qwen2ForCausalLM
    tuned: Qwen2ForCausalLM
    stop: str
    exitcode: int | None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("vllm")
    base = tiny_qwen2.make(folder / "base", seed=1)
    tuned = tiny_qwen2.make(folder / "tuned", seed=2)
    publisher = WeightPublisher(f"test-{folder.name}")
    weights = dict(tuned.named_parameters())
    published = publisher.publish("grpo", 1, weights.items())
    short = {name: weight for name, weight in weights.items() if name != "model.norm.weight"}
    narrow = weights | {"model.norm.weight": torch.ones(3)}
    foreign = weights | {"lm_head.weight": weights["model.embed_tokens.weight"]}
    wrong = [
        publisher.publish("grpo", 2 + place, bad.items())
        for place, bad in enumerate((short, narrow, foreign))
    ]
    wrong.append(WeightRef("grpo", 9, published.location))
    stop = _stop_string(tuned, folder / "tuned")
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_child, args=(folder / "base", wrong, published, stop, there))
    process.start()
    there.close()
    try:
        seen = here.recv()
    finally:
        process.join(60)
        publisher.close()
    return World(seen, base, tuned, stop, process.exitcode)


def _stop_string(model: Qwen2ForCausalLM, folder: Path) -> str:
    from transformers import AutoTokenizer

    ids = greedy(model, prompts()[0])
    return str(AutoTokenizer.from_pretrained(folder).decode(ids[3:5]))


def greedy(model: Qwen2ForCausalLM, prompt: NDArray[np.int32]) -> list[int]:
    ids = torch.from_numpy(prompt.astype(np.int64))[None]
    with torch.inference_mode():
        return model.generate(ids, max_new_tokens=24, do_sample=False)[0, len(prompt) :].tolist()  # type: ignore


def logits(model: Qwen2ForCausalLM, prompt: NDArray[np.int32], done: Generated) -> torch.Tensor:
    """`(completion tokens, vocabulary)` by a plain full forward pass."""
    ids = torch.tensor([[*prompt.tolist(), *done.token_ids.tolist()]])
    with torch.inference_mode():
        return model(ids).logits[0, len(prompt) - 1 : -1]


def test_greedy_is_transformers_before_and_after_a_hand_over(world: World) -> None:
    for index, prompt in enumerate(prompts()):
        assert world.seen.answers["base"][index, 0].token_ids.tolist() == greedy(world.base, prompt)
        assert world.seen.answers["greedy"][index, 0].token_ids.tolist() == greedy(world.tuned, prompt)


def test_a_cached_prompt_gets_a_new_answer_under_new_weights(world: World) -> None:
    longest = len(prompts()) - 1  # its blocks were in the prefix cache when the weights changed
    before, after = (world.seen.answers[name][longest, 0] for name in ("base", "greedy"))
    assert before.token_ids.tolist() != after.token_ids.tolist()
    expected = logits(world.tuned, prompts()[longest], after).log_softmax(-1).amax(-1).numpy()
    np.testing.assert_allclose(after.logprobs, expected, atol=1e-4)


def test_logprobs_are_those_of_the_distribution_that_was_drawn_from(world: World) -> None:
    for (index, _), done in world.seen.answers["warm"].items():
        full = (logits(world.tuned, prompts()[index], done) / 0.7).log_softmax(-1)
        drawn = full.gather(1, torch.from_numpy(done.token_ids.astype(np.int64))[:, None])[:, 0]
        np.testing.assert_allclose(done.logprobs, drawn.numpy(), atol=1e-4)
    for (index, _), done in world.seen.answers["nucleus"].items():
        full = logits(world.tuned, prompts()[index], done).double().softmax(-1).numpy()
        for row, token, logprob in zip(full, done.token_ids, done.logprobs, strict=True):
            order = np.argsort(-row)
            size = int(np.searchsorted(np.cumsum(row[order]), 0.6)) + 1
            assert logprob == pytest.approx(np.log(row[token] / row[order[:size]].sum()), abs=1e-4)


def test_bad_versions_are_refused_and_the_old_one_keeps_serving(world: World) -> None:
    for refusal, part in zip(
        world.seen.refusals,
        (
            "lacks 1 of the model's tensors, first model.norm.weight",
            "is (3,)",
            "lm_head.weight",
            "holds version 1",
        ),
        strict=True,
    ):
        assert part in refusal
    for place, done in world.seen.answers["greedy"].items():
        again = world.seen.answers["after refusals"][place]
        assert again.token_ids.tolist() == done.token_ids.tolist()
        np.testing.assert_allclose(again.logprobs, done.logprobs, atol=1e-5)


def test_each_completions_seed_decides_it_whatever_the_order(world: World) -> None:
    first, again = world.seen.answers["warm"], world.seen.answers["warm again"]
    assert all(done.token_ids.tolist() == again[place].token_ids.tolist() for place, done in first.items())
    assert len({done.token_ids.tobytes() for (prompt, _), done in first.items() if prompt == 0}) > 1


def test_completions_come_as_they_finish_and_late_requests_are_served(world: World) -> None:
    steps = world.seen.steps
    assert [] in steps and sum(map(bool, steps)) > 1
    assert sorted(place for step in steps for place in step) == sorted(
        (request.prompt, request.sample) for request in job(2)
    )


def test_end_id_is_kept_exactly_when_the_completion_ended_by_itself(world: World) -> None:
    found = list(world.seen.answers["warm"].values())
    assert {done.finish for done in found} == {"stop", "length"}
    for done in found:
        assert (done.token_ids[-1] == tiny_qwen2.END) == (done.finish == "stop")
        assert len(done.token_ids) == len(done.logprobs)


def test_stop_strings_end_the_completion_and_are_cut_from_its_text(world: World) -> None:
    stopped = world.seen.answers["stopped"][0, 0]
    assert stopped.finish == "stop"
    assert stopped.token_ids.tolist() == greedy(world.tuned, prompts()[0])[: len(stopped.token_ids)]
    assert len(stopped.token_ids) <= 5 and world.stop not in world.seen.stopped_text


def test_start_is_told_and_the_end_leaves_nothing(world: World) -> None:
    assert world.seen.phases == ["loading"]  # the CPU build neither compiles nor captures
    assert world.seen.children == 0
    assert world.exitcode == 0
