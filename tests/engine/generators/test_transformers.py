"""The transformers generator against `model.generate` and a plain full forward pass."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import Qwen2ForCausalLM

from engine.generators.interface import Generated, GenerationRequest, WeightsRefused, text_of
from engine.generators.transformers import TransformersGenerator
from engine.protocol.messages import Sampling, WeightRef
from tests.support.tiny_qwen2 import END, VOCABULARY, make

Places = dict[tuple[int, int], Generated]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    make(path, seed=1)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def generator(folder: Path) -> TransformersGenerator:
    made = TransformersGenerator(folder, "cpu", torch.float32, max_sequences=32, max_model_len=256)
    made.load(WeightRef("base", 0, str(folder)))
    return made


def prompts(count: int) -> list[NDArray[np.int32]]:
    rng = np.random.default_rng(7)
    return [rng.integers(1, VOCABULARY, size=rng.integers(2, 30)).astype(np.int32) for _ in range(count)]


def job(count: int, samples: int) -> list[GenerationRequest]:
    return [
        GenerationRequest(index, sample, ids, 1000 * index + sample + 7)
        for index, ids in enumerate(prompts(count))
        for sample in range(samples)
    ]


def run(generator: TransformersGenerator, requests: list[GenerationRequest], sampling: Sampling) -> Places:
    steps = generator.generate(deque(requests), sampling)
    return {(done.prompt, done.sample): done for finished in steps for done in finished}


def own_logprobs(
    model: Qwen2ForCausalLM, prompt: NDArray[np.int32], done: Generated, temperature: float
) -> torch.Tensor:
    ids = torch.tensor([[*prompt.tolist(), *done.token_ids.tolist()]])
    with torch.inference_mode():
        logits = model(ids).logits[0, len(prompt) - 1 : -1] / temperature
    return logits.log_softmax(-1)


def test_greedy_is_what_model_generate_gives(
    generator: TransformersGenerator, model: Qwen2ForCausalLM
) -> None:
    found = run(generator, job(40, 1), Sampling(0.0, 24))
    for index, prompt in enumerate(prompts(40)):
        with torch.inference_mode():
            expected = model.generate(
                torch.from_numpy(prompt.astype(np.int64))[None], max_new_tokens=24, do_sample=False
            )
        assert found[index, 0].token_ids.tolist() == expected[0, len(prompt) :].tolist()
    assert {done.finish for done in found.values()} == {"stop", "length"}, "the test needs both ends"


def test_logprobs_are_those_of_a_full_forward_at_the_temperature(
    generator: TransformersGenerator, model: Qwen2ForCausalLM
) -> None:
    for temperature in (0.0, 0.7, 1.0):
        for (index, _), done in run(generator, job(12, 4), Sampling(temperature, 80)).items():
            full = own_logprobs(model, prompts(12)[index], done, temperature or 1.0)
            expected = full.gather(1, torch.from_numpy(done.token_ids.astype(np.int64))[:, None])[
                :, 0
            ].numpy()
            np.testing.assert_allclose(done.logprobs, expected, atol=1e-4)


def test_top_p_stays_in_the_nucleus_and_is_renormalised(
    generator: TransformersGenerator, model: Qwen2ForCausalLM
) -> None:
    for (index, _), done in run(generator, job(10, 4), Sampling(1.0, 20, top_p=0.6)).items():
        full = own_logprobs(model, prompts(10)[index], done, 1.0).double().exp().numpy()
        for row, token, logprob in zip(full, done.token_ids, done.logprobs, strict=True):
            order = np.argsort(-row)
            size = int(np.searchsorted(np.cumsum(row[order]), 0.6)) + 1
            assert token in order[:size]
            assert logprob == pytest.approx(np.log(row[token] / row[order[:size]].sum()), abs=1e-4)


def test_end_id_is_kept_exactly_when_the_completion_ended_by_itself(generator: TransformersGenerator) -> None:
    found = run(generator, job(32, 4), Sampling(1.0, 40)).values()
    ends = [done for done in found if done.finish == "stop"]
    assert ends and len(ends) < len(found)
    for done in found:
        assert (done.token_ids[-1] == END) == (done.finish == "stop")
        assert END not in done.token_ids[:-1]
        assert len(done.token_ids) == len(done.logprobs) <= 40
        assert done.finish == "stop" or len(done.token_ids) == 40


def test_the_same_job_gives_the_same_bits_and_its_order_changes_no_token(
    generator: TransformersGenerator,
) -> None:
    # Another order rounds differently (1e-6): a draw that near a boundary may flip. These seeds have none.
    sampling = Sampling(1.0, 40)
    first, again = (run(generator, job(16, 4), sampling) for _ in range(2))
    reordered = run(
        generator, [job(16, 4)[place] for place in np.random.default_rng(3).permutation(64)], sampling
    )
    alone = run(generator, [job(16, 4)[37]], sampling)
    for place, done in first.items():
        assert done.token_ids.tolist() == again[place].token_ids.tolist()
        assert done.logprobs.tobytes() == again[place].logprobs.tobytes()
        assert done.token_ids.tolist() == reordered[place].token_ids.tolist()
    (only,) = alone
    assert alone[only].token_ids.tolist() == first[only].token_ids.tolist()


def test_seeds_decide_and_samples_differ(generator: TransformersGenerator) -> None:
    found = run(generator, job(8, 8), Sampling(1.0, 20))
    for index in range(8):
        assert len({found[index, sample].token_ids.tobytes() for sample in range(8)}) > 4


def test_first_tokens_follow_the_models_distribution(
    generator: TransformersGenerator, model: Qwen2ForCausalLM
) -> None:
    prompt = prompts(1)[0]
    requests = [GenerationRequest(0, sample, prompt, 31 * sample + 5) for sample in range(4000)]
    drawn = np.bincount(
        [done.token_ids[0] for done in run(generator, requests, Sampling(1.0, 1)).values()],
        minlength=VOCABULARY,
    )
    with torch.inference_mode():
        expected = (
            model(torch.from_numpy(prompt.astype(np.int64))[None]).logits[0, -1].double().softmax(-1).numpy()
        )
    likely = expected * 4000 >= 5
    statistic = ((drawn - 4000 * expected)[likely] ** 2 / (4000 * expected[likely])).sum()
    degrees = int(likely.sum()) - 1
    assert statistic < degrees + 4 * np.sqrt(2 * degrees), "chi-square, four standard deviations"


def test_stop_strings_end_the_completion_and_are_cut_from_its_text(generator: TransformersGenerator) -> None:
    free = next(
        done for done in run(generator, job(8, 1), Sampling(0.0, 24)).values() if len(done.token_ids) == 24
    )
    ids, decode = free.token_ids.tolist(), generator.tokenizer.decode
    stop = decode(ids[4:6])
    shortest = next(size for size in range(25) if stop in decode(ids[:size]))
    stopped = run(generator, job(8, 1), Sampling(0.0, 24, stop=("absent", stop)))[free.prompt, 0]
    assert stopped.finish == "stop"
    assert stopped.token_ids.tolist() == ids[:shortest]
    assert (
        text_of(generator.tokenizer, stopped.token_ids, (stop,)) == decode(ids[:shortest]).partition(stop)[0]
    )


def test_completions_come_as_they_finish(generator: TransformersGenerator) -> None:
    lengths = [
        len(done.token_ids)
        for finished in generator.generate(deque(job(32, 1)), Sampling(1.0, 60))
        for done in finished
    ]
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1]


def test_requests_appended_while_it_runs_are_served(generator: TransformersGenerator) -> None:
    requests = job(6, 1)
    waiting = deque(requests[:3])
    found = []
    for finished in generator.generate(waiting, Sampling(0.0, 8)):
        found += [done.prompt for done in finished]
        if len(found) == 3 and len(requests) == 6:
            waiting.extend(requests[3:])
            requests = requests[:3]
    assert sorted(found) == list(range(6))


def test_new_weights_change_the_answer_and_misfits_are_refused(folder: Path, tmp_path: Path) -> None:
    generator = TransformersGenerator(folder, "cpu", torch.float32, 32, 256)
    generator.load(WeightRef("base", 0, str(folder)))
    before = run(generator, job(2, 1), Sampling(0.0, 24))
    other, narrow = tmp_path / "other", tmp_path / "narrow"
    make(other, seed=2)
    make(narrow, seed=2, tied=False)
    with pytest.raises(WeightsRefused, match=r"lm_head\.weight"):
        generator.load(WeightRef("grpo", 1, str(narrow)))
    assert (
        run(generator, job(2, 1), Sampling(0.0, 24))[0, 0].token_ids.tolist()
        == before[0, 0].token_ids.tolist()
    )
    generator.load(WeightRef("grpo", 1, str(other)))
    assert (
        run(generator, job(2, 1), Sampling(0.0, 24))[0, 0].token_ids.tolist()
        != before[0, 0].token_ids.tolist()
    )
