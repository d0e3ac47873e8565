"""Data parallelism: two processes answer as one does."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
import pytest

from engine.bench.shapes import QWEN_1_5B
from engine.generators.build import build, one, visible_devices, with_copies
from engine.generators.copies import Build, CopyNotStarted, GeneratorCopies
from engine.generators.interface import Generated, GenerationRequest, Generator, WeightsRefused
from engine.generators.placement import at_device, placements
from engine.generators.shared_gpu import cache_bytes, found_copies
from engine.machine.spawn import SPAWN
from engine.protocol.messages import Sampling, WeightRef
from profiles.load import load as load_profile
from tests.support import tiny_qwen2

SAMPLING = Sampling(1.0, 20)


def job() -> list[GenerationRequest]:
    rng = np.random.default_rng(2)
    prompts = [rng.integers(1, tiny_qwen2.VOCABULARY, size=9).astype(np.int32) for _ in range(5)]
    return [GenerationRequest(p, s, prompts[p], 50 * p + s) for p in range(5) for s in range(3)]


def run(generator: Generator, requests: list[GenerationRequest]) -> dict[tuple[int, int], Generated]:
    steps = generator.generate(deque(requests), SAMPLING)
    return {(done.prompt, done.sample): done for finished in steps for done in finished}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("copies")
    tiny_qwen2.make(path / "base", seed=1)
    tiny_qwen2.make(path / "untied", seed=1, tied=False)
    return path


@pytest.fixture(scope="module")
def copies(folder: Path) -> Iterator[GeneratorCopies]:
    profile = load_profile("demo", ["hardware.worker_data_parallel=2"])
    generator = build(profile, str(folder / "base"), lambda phase, detail: None)
    assert isinstance(generator, GeneratorCopies)
    generator.load(WeightRef("base", 0, str(folder / "base")))
    yield generator
    generator.close()


def test_two_copies_answer_as_one(copies: GeneratorCopies, folder: Path) -> None:
    single = build(load_profile("demo"), str(folder / "base"), lambda phase, detail: None)
    expected, found = run(single, job()), run(copies, job())
    assert found.keys() == expected.keys()
    for place, done in expected.items():
        assert found[place].token_ids.tolist() == done.token_ids.tolist()
    assert (copies.vocabulary, copies.longest) == (single.vocabulary, single.longest)


def test_a_refusal_of_the_copies_keeps_the_old_weights(copies: GeneratorCopies, folder: Path) -> None:
    before = run(copies, job())
    with pytest.raises(WeightsRefused, match=r"lm_head\.weight"):
        copies.load(WeightRef("grpo", 1, str(folder / "untied")))
    after = run(copies, job())
    assert all(after[place].logprobs.tobytes() == done.logprobs.tobytes() for place, done in before.items())


def test_what_is_dropped_does_not_come_later_and_late_requests_are_served(copies: GeneratorCopies) -> None:
    abandoned = copies.generate(deque(job()), SAMPLING)
    next(abandoned)
    abandoned.close()
    waiting, late, found = deque(job()[:6]), job()[6:], []
    for finished in copies.generate(waiting, SAMPLING):
        found += [(done.prompt, done.sample) for done in finished]
        if finished and late:
            waiting.append(late.pop())
    assert sorted(found) == sorted((request.prompt, request.sample) for request in job())


def test_a_dead_copy_is_an_error_and_its_sibling_ends(copies: GeneratorCopies) -> None:
    children = [psutil.Process(child.pid) for child in multiprocessing.active_children()]
    os.kill(children[0].pid, 9)
    with pytest.raises((EOFError, BrokenPipeError, ConnectionResetError)):
        run(copies, job())
    copies.close()
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert len(gone) == 2 and not alive


def test_devices_count_up_from_the_workers() -> None:
    hardware = load_profile("qwen2.5-math-1.5b", ["hardware.worker_tensor_parallel=2"]).hardware
    assert [at_device(hardware, place).worker for place in range(3)] == ["cuda:1", "cuda:3", "cuda:5"]
    assert visible_devices("cuda:1", 1, "") == "1"
    assert visible_devices("cuda:2", 2, "") == "2,3"
    assert visible_devices("cuda:1", 2, "4,GPU-a,7") == "GPU-a,7"
    with pytest.raises(WeightsRefused, match="names only 1"):
        visible_devices("cuda:1", 1, "4")


def test_an_idle_trainers_gpus_take_a_copy_each() -> None:
    def workers(idle: bool, *settings: str) -> list[str]:
        hardware = load_profile("qwen2.5-math-1.5b", settings).hardware
        return [each.worker for each in placements(hardware, idle)]

    assert workers(False) == ["cuda:1"]
    assert workers(True) == ["cuda:1", "cuda:0"]
    two = ("hardware.worker=cuda:2", "hardware.trainer_processes=2", "hardware.worker_data_parallel=2")
    assert workers(True, *two) == ["cuda:2", "cuda:3", "cuda:0", "cuda:1"]
    assert workers(True, "hardware.worker_tensor_parallel=2") == ["cuda:1"]
    assert workers(True, "hardware.trainer=cpu", "hardware.worker=cuda:0") == ["cuda:0"]
    assert workers(True, "hardware.worker=cuda:0") == ["cuda:0"]


def test_a_copy_beside_the_trainers_context_asks_for_less_memory() -> None:
    def fractions(*settings: str) -> list[float]:
        hardware = load_profile("qwen2.5-math-1.5b", settings).hardware
        return [each.gpu_memory_fraction for each in placements(hardware, trainer_idle=True)]

    assert fractions("hardware.gpu_memory_fraction=0.95") == [0.95, 0.85]
    assert fractions("hardware.gpu_memory_fraction=0.3") == [0.3, 0.3]


def test_copies_share_their_device() -> None:
    def placed(*settings: str) -> list[tuple[str, float, int]]:
        hardware = load_profile("qwen2.5-math-1.5b", settings).hardware
        found = placements(hardware, trainer_idle="idle" in settings)
        return [(each.worker, each.gpu_memory_fraction, each.max_sequences) for each in found]

    assert placed("hardware.worker_copies=3", "hardware.max_sequences=512") == [("cuda:1", 0.3, 171)] * 3
    two = ("hardware.worker_copies=2", "hardware.worker_data_parallel=2")
    assert placed(*two) == [("cuda:1", 0.45, 256)] * 2 + [("cuda:2", 0.45, 256)] * 2
    hardware = load_profile("qwen2.5-math-1.5b", ["hardware.worker_copies=2"]).hardware
    assert [each.worker for each in placements(hardware, trainer_idle=True)] == ["cuda:1"] * 2 + [
        "cuda:0"
    ] * 2


def test_a_copy_without_room_for_its_cache_is_refused() -> None:
    """The arithmetic: 80 GB × 0.9 / 4 − 3 GB of weights − 1.9 GB of logits − 2.7 GB are 10.4 GB."""
    hardware = load_profile("qwen2.5-math-1.5b", ["hardware.worker_copies=4"]).hardware
    shapes = {"body": (1_000_000_000,), "head": (500_000_000,)}
    part = placements(hardware, trainer_idle=False)[0]
    bytes_left = cache_bytes(80 * 10**9, part, 2, shapes, 128 * 150_000)
    assert bytes_left == pytest.approx(18e9 - 3e9 - 128 * 150_000 * 10 - 2.5 * 2**30)
    with pytest.raises(WeightsRefused, match=r"worker_copies=4.* lower it"):
        cache_bytes(24 * 10**9, part, 2, shapes, 128 * 150_000)


def test_as_many_copies_as_have_room_for_their_sequences() -> None:
    """1.5 B weights in bf16 (3.1 GB), 28 layers × 2 heads × 128: 28,672 bytes a token; 2,048 tokens a sequence."""
    config = QWEN_1_5B.config()
    shapes = {"every": (1_543_714_304,)}

    def found(gigabytes: float, *settings: str) -> int:
        hardware = load_profile("qwen2.5-math-1.5b", settings).hardware
        return found_copies(int(gigabytes * 1e9), hardware, 2, shapes, config)

    # Four copies need 4 × (3.1 + 7.5 + 0.2 + 2.7) GB of the 90 %, two need 2 × (3.1 + 15.0 + 0.4 + 2.7).
    assert (found(62), found(59), found(48), found(46), found(24)) == (4, 2, 2, 1, 1)
    short = ("grpo.max_new_tokens=512", "eval.max_new_tokens=512", "hardware.max_model_len=2048")
    assert found(24, "hardware.max_sequences=64", *short) == 2


def test_a_generator_without_a_gpu_is_one_copy(folder: Path) -> None:
    for settings in ([], ["hardware.generator=vllm"], ["hardware.worker_copies=3"]):
        assert (
            with_copies(load_profile("demo", settings).hardware, folder / "base", "float32").worker_copies
            == 1
        )


def one_that_fails(folder: Path) -> Generator:
    raise MemoryError(f"no room for {folder}")


def test_a_copy_that_does_not_start_is_an_error_and_its_sibling_ends(folder: Path) -> None:
    profile = load_profile("demo")
    started = partial(one, folder / "base", profile.hardware, "float32", _nothing)
    # A worker that raised and left a copy would wait for it at its exit.
    ours, theirs = SPAWN.Pipe()
    worker = SPAWN.Process(target=start_copies, args=([started, partial(one_that_fails, folder)], theirs))
    worker.start()
    theirs.close()
    assert "copy 2 of 2" in ours.recv()
    worker.join(60)
    assert worker.exitcode == 1


def start_copies(builds: list[Build], connection: Connection) -> None:
    try:
        GeneratorCopies(builds)
    except CopyNotStarted as error:
        connection.send(str(error))
        raise


def _nothing(phase: str, detail: str) -> None:
    pass
