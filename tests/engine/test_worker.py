"""The worker's protocol: priorities, streaming, refusals, dynamic sampling, a trainer that goes away, and the end."""

from __future__ import annotations

import json
import multiprocessing
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.generators.groups import Groups
from engine.generators.interface import Generated, GenerationRequest, WeightsRefused
from engine.ipc.channels import ChannelClosed, Receiver, Sender
from engine.protocol.messages import (
    Completion,
    Job,
    JobDone,
    JobFailed,
    Prompt,
    Sampling,
    Stop,
    WeightRef,
    WorkerRequest,
    WorkerResult,
    completion_seed,
)
from engine.weight_sync.slots import TornWeights
from engine.weight_sync.weights import WeightPublisher, read_weights
from engine.worker import Worker, main
from profiles.load import load as load_profile
from store.home import RunFolder
from store.records import Event, Record, Scalar
from tests.support import tiny_qwen2

DEADLINE = 60.0  # seconds


class Answers:
    """The trainer's end of the results."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._receiver: Receiver[WorkerResult] = Receiver(connection)
        self.close = self._receiver.close

    def get(self) -> WorkerResult:
        result = self._receiver.get()
        assert result is not None, "the worker is silent"
        return result


class Child:
    """Stands for the worker's process: real channels over pipes, whose other ends the test holds."""

    def __init__(self) -> None:
        self.emitted: list[Record] = []
        self.links: queue.SimpleQueue[tuple[Receiver[WorkerRequest], Sender[WorkerResult]] | None] = (
            queue.SimpleQueue()
        )
        self.trainer = self.link()
        self.await_trainer()

    def link(self) -> tuple[Connection[Any, Any], Answers]:
        """A new trainer's ends: where jobs are sent and where results come out."""
        job_reader, job_writer = multiprocessing.Pipe(duplex=False)
        result_reader, result_writer = multiprocessing.Pipe(duplex=False)
        self.links.put((Receiver(job_reader), Sender(result_writer)))
        return job_writer, Answers(result_reader)

    def await_trainer(self) -> bool:
        found = self.links.get(timeout=DEADLINE)
        if found is None:
            return False
        self.jobs, self.results = found
        return True

    def emit(self, record: Record) -> None:
        self.emitted.append(record)


class Words:
    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return f"#### {token_ids[0]}"


class Scripted:
    """A generator whose answer to prompt p, sample s is `answer(p, s)`; one completion a step, last request first."""

    tokenizer = Words()
    vocabulary = 100
    longest = 64

    def __init__(self, answer: Callable[[int, int], int] = lambda prompt, sample: 1) -> None:
        self.answer = answer
        self.loaded: list[WeightRef] = []
        self.asked: list[GenerationRequest] = []
        self.gate: threading.Semaphore | None = None
        self.closed = False

    def load(self, weights: WeightRef) -> None:
        if "bad" in weights.location:
            raise WeightsRefused("a bad version")
        self.loaded.append(weights)

    def generate(self, waiting: deque[GenerationRequest], sampling: Sampling) -> Iterator[list[Generated]]:
        while waiting:
            request = waiting.pop()
            self.asked.append(request)
            if self.gate is not None:
                assert self.gate.acquire(timeout=DEADLINE)
            ids = np.array([self.answer(request.prompt, request.sample), 0], dtype=np.int32)
            yield [Generated(request.prompt, request.sample, ids, np.zeros(2, np.float32), "stop")]

    def close(self) -> None:
        self.closed = True


def job(job_id: int, **changes: Any) -> Job:
    prompts = tuple(
        Prompt(f"q{index}", index, np.arange(1, 5, dtype=np.int32), gold="1")
        for index in range(changes.pop("count", 3))
    )
    fields = {
        "kind": "rollout",
        "step": 5,
        "weights": WeightRef("grpo", 2, "slot"),
        "prompts": prompts,
        "samples": 2,
        "sampling": Sampling(1.0, 8),
        "seed": 11,
    }
    return Job(job_id, **(fields | changes))


def served(generator: Scripted, *jobs: WorkerRequest) -> tuple[list[WorkerResult], Child]:
    """What the worker answers to `jobs` and a Stop, all of which are there when it starts."""
    child = Child()
    for request in jobs:
        child.trainer[0].send(request)
    results: list[WorkerResult] = []
    worker = threading.Thread(target=Worker(child, lambda: generator).serve)
    worker.start()
    while sum(not isinstance(result, Completion) for result in results) < len(jobs):
        results.append(child.trainer[1].get())
    child.trainer[0].send(Stop())
    worker.join(DEADLINE)
    assert not worker.is_alive()
    return results, child


def test_completions_stream_graded_and_job_done_comes_last() -> None:
    generator = Scripted(lambda prompt, sample: 1 + (prompt == 1))
    results, child = served(generator, job(7))
    done = results[-1]
    assert isinstance(done, JobDone)
    assert (done.job_id, done.kind, done.version, done.kept) == (7, "rollout", 2, (0, 1, 2))
    assert (done.generated_tokens, done.prompt_tokens) == (12, 12)
    completions = [result for result in results[:-1] if isinstance(result, Completion)]
    assert {(c.prompt, c.sample) for c in completions} == {(p, s) for p in range(3) for s in range(2)}
    assert {c.prompt: (c.outcome, c.answer, c.text) for c in completions}[1] == ("wrong", "2", "#### 2")
    assert all(c.outcome == "correct" for c in completions if c.prompt != 1)
    assert generator.closed
    metrics = {record.metric for record in child.emitted if isinstance(record, Scalar)}
    assert {"grpo/worker/tokens_per_second", "grpo/worker/idle_seconds"} <= metrics


def test_seeds_follow_from_job_step_prompt_and_sample() -> None:
    generator = Scripted()
    served(generator, job(7))
    seeds = {(request.prompt, request.sample): request.seed for request in generator.asked}
    assert seeds == {(p, s): completion_seed(11, 5, p, s) for p in range(3) for s in range(2)}
    assert len(set(seeds.values())) == 6


def test_waiting_jobs_go_by_priority_then_age_and_weights_load_once_a_version() -> None:
    generator = Scripted()
    other = WeightRef("grpo", 3, "slot2")
    jobs = [job(1, priority=1), job(2, priority=1, weights=other), job(3), job(4, weights=other), job(5)]
    child = Child()
    for request in jobs:
        child.trainer[0].send(request)
    worker = threading.Thread(target=Worker(child, lambda: generator).serve)
    worker.start()
    order: list[int] = []
    while len(order) < 5:
        result = child.trainer[1].get()
        if isinstance(result, JobDone):
            order.append(result.job_id)
    child.trainer[0].send(Stop())
    worker.join(DEADLINE)
    assert order == [3, 4, 5, 1, 2]
    assert [weights.version for weights in generator.loaded] == [2, 3, 2, 3]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"weights": WeightRef("grpo", 2, "bad")}, "bad version"),
        ({"sampling": Sampling(1.0, 64)}, "64 new ones leave room for 0;"),
        ({"sampling": Sampling(-1.0, 8)}, "temperature"),
        ({"sampling": Sampling(1.0, 8, top_p=0.0)}, "top_p"),
        ({"samples": 0}, "at least one"),
        ({"count": 0}, "at least one"),
        ({"wanted": 4}, "wants 4 prompts but has 3"),
        ({"prompts": (Prompt("q", 0, np.array([100], np.int32), "1"),)}, "below 100"),
        ({"prompts": (Prompt("q", 0, np.array([], np.int32), "1"),)}, "its token ids must exist"),
        ({"prompts": (Prompt("q", 0, np.array([5], np.int32), "####"),)}, "gold"),
        ({"prompts": (Prompt("q", 0, np.array([5], np.int32), "1"),) * 2}, "same index"),
    ],
)
def test_a_bad_job_fails_alone(changes: dict[str, Any], complaint: str) -> None:
    results, _ = served(Scripted(), job(1, **changes), job(2))
    assert isinstance(results[0], JobFailed)
    assert results[0].job_id == 1 and complaint in results[0].error and "\n" not in results[0].error
    assert isinstance(results[-1], JobDone) and results[-1].job_id == 2


def test_there_is_no_model_yet() -> None:
    child = Child()
    child.trainer[0].send(job(1))
    worker = threading.Thread(target=Worker(child, lambda: None).serve)
    worker.start()
    result = child.trainer[1].get()
    child.trainer[0].send(Stop())
    worker.join(DEADLINE)
    assert isinstance(result, JobFailed) and "no model yet" in result.error


def test_flat_groups_are_replaced_by_spares_in_order() -> None:
    varied = {
        1,
        4,
        5,
        6,
    }  # of eight prompts, four wanted: 0, 2 and 3 are flat, and so is the first spare's successor
    generator = Scripted(lambda prompt, sample: 1 if prompt not in varied else 1 + sample)
    results, _ = served(generator, job(1, count=8, wanted=4))
    done = results[-1]
    assert isinstance(done, JobDone)
    assert done.kept == (1, 4, 5, 6)
    assert {request.prompt for request in generator.asked} == set(range(7)), "prompt 7 was not needed"


def test_acceptance_does_not_depend_on_the_order_of_the_ends() -> None:
    varied = {1, 4, 6, 7}
    rng = np.random.default_rng(5)
    for _ in range(50):
        groups = Groups(job(1, count=9, wanted=4))
        running = [(prompt.index, sample) for prompt in groups.first() for sample in range(2)]
        while running:
            prompt, sample = running.pop(int(rng.integers(len(running))))
            spare = groups.finished(prompt, correct=prompt in varied and sample == 1)
            running += [(spare.index, sample) for sample in range(2)] if spare else []
        assert groups.kept() == (1, 4, 6, 7)


def test_flat_groups_make_up_the_number_where_spares_run_out() -> None:
    results, _ = served(
        Scripted(lambda prompt, sample: 1 + sample * (prompt == 4)), job(1, count=5, wanted=3)
    )
    done = results[-1]
    assert isinstance(done, JobDone)
    assert done.kept == (0, 1, 4)


def test_a_trainer_that_goes_away_takes_its_jobs_along() -> None:
    generator = Scripted()
    generator.gate = threading.Semaphore(2)
    child = Child()
    first, second = child.trainer
    first.send(job(1))
    worker = threading.Thread(target=Worker(child, lambda: generator).serve)
    worker.start()
    assert isinstance(second.get(), Completion)
    first.close()
    again = child.link()
    again[0].send(job(2))
    generator.gate.release(20)
    results = []
    while not isinstance(result := again[1].get(), JobDone):
        results.append(result)
    assert {completion.job_id for completion in results} == {2} and len(results) == 6
    again[0].send(Stop())
    worker.join(DEADLINE)
    assert not worker.is_alive()


def test_stop_ends_a_job_between_two_steps() -> None:
    generator = Scripted()
    generator.gate = threading.Semaphore(1)
    child = Child()
    child.trainer[0].send(job(1, count=50))
    worker = threading.Thread(target=Worker(child, lambda: generator).serve)
    worker.start()
    assert isinstance(child.trainer[1].get(), Completion)
    child.trainer[0].send(Stop())
    generator.gate.release(2)
    worker.join(DEADLINE)
    assert not worker.is_alive()
    assert generator.closed and len(generator.asked) <= 3


class ProcessChild:
    """What a spawned worker is given in the test below."""

    trainer_idle = False

    def __init__(
        self, jobs: Connection[Any, Any], results: Connection[Any, Any], events: Connection[Any, Any]
    ) -> None:
        self.jobs: Receiver[WorkerRequest] = Receiver(jobs)
        self.results: Sender[WorkerResult] = Sender(results)
        self.emit = events.send

    def await_trainer(self) -> bool:
        return False


def _worker_process(folder: RunFolder, *connections: Connection[Any, Any]) -> None:
    child = ProcessChild(*connections)
    main(folder, child)  # type: ignore[arg-type]
    child.results.close(timeout=None)


def test_a_worker_process_serves_published_weights_from_shared_memory(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    base = folder.checkpoints("base") / "step_000001"
    base.mkdir(parents=True)
    tiny_qwen2.make(base, seed=1)
    profile = load_profile("demo").model_dump(mode="json")
    folder.config.write_text(json.dumps({"profile": profile, "plan": []}))
    publisher = WeightPublisher(f"test-{tmp_path.name}")
    changed = tiny_qwen2.make(tmp_path / "other", seed=2)
    published = publisher.publish("grpo", 1, changed.named_parameters())
    spawn = multiprocessing.get_context("spawn")
    job_reader, job_writer = spawn.Pipe(duplex=False)
    result_reader, result_writer = spawn.Pipe(duplex=False)
    event_reader, event_writer = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_worker_process, args=(folder, job_reader, result_writer, event_writer))
    process.start()
    result_writer.close()
    event_writer.close()
    prompts = (Prompt("q0", 0, np.array([5, 9, 2, 44], np.int32), "1"),)
    sampling = Sampling(0.0, 12)
    references = (WeightRef("base", 0, str(base)), published, WeightRef("grpo", 7, published.location))
    for number, weights in enumerate(references):
        job_writer.send(Job(number, "validation", 0, weights, prompts, 1, sampling, seed=3))
    results: list[WorkerResult] = [result_reader.recv() for _ in range(5)]
    job_writer.send(Stop())
    process.join(DEADLINE)
    publisher.close()
    assert process.exitcode == 0
    by_job = {result.job_id: result for result in results if isinstance(result, Completion)}
    assert by_job[0].version == 0 and by_job[1].version == 1
    assert by_job[0].token_ids.tolist() != by_job[1].token_ids.tolist(), "the same prompt under other weights"
    assert isinstance(results[-1], JobFailed) and "holds version 1" in results[-1].error
    events = []
    while event_reader.poll():
        events.append(event_reader.recv())
        if isinstance(events[-1], Event) and events[-1].payload["phase"] == "ready":
            break
    assert [event.payload["phase"] for event in events] == ["loading", "ready"]
    with pytest.raises(TornWeights):
        read_weights(published)


def test_a_closed_result_channel_is_like_a_trainer_that_is_gone() -> None:
    child = Child()
    sender, receiver = child.trainer
    receiver.close()
    sender.send(job(1, count=50))
    child.links.put(None)
    with pytest.raises(ChannelClosed):
        while True:
            child.results.put(JobFailed(0, "rollout", ""))
    Worker(child, Scripted).serve()
