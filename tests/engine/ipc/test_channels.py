"""Channels, link and outbox: nothing is mixed up, lost or waited for in vain when the other end dies."""

from __future__ import annotations

import threading
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest

from engine.context import StopRequested
from engine.ipc.channels import ChannelClosed, Receiver, Sender
from engine.ipc.orders import Flush, FromChild, MainReturned
from engine.ipc.outbox import Outbox, read_spool
from engine.ipc.step_control import StepControl
from engine.ipc.worker_client import WorkerClient
from engine.protocol.messages import (
    Completion,
    Job,
    JobDone,
    JobFailed,
    Prompt,
    Sampling,
    SuiteJob,
    SuiteProgress,
    SuiteTask,
    WeightRef,
    WorkerRequest,
    WorkerResult,
)
from store.records import Scalar

SECONDS = 10.0


def channel() -> tuple[Receiver[object], Sender[object]]:
    reading, writing = Pipe(duplex=False)
    return Receiver(reading), Sender(writing)


def test_a_sender_never_waits_for_a_receiver_that_does_not_read() -> None:
    receiver, sender = channel()
    arrays = [np.full(100_000, number) for number in range(20)]  # 16 MB: far more than a pipe holds
    for array in arrays:
        sender.put(array)
    assert [int(receiver.get(SECONDS)[0]) for _ in arrays] == list(range(20))  # type: ignore[index]
    assert receiver.get(0.0) is None


def test_what_is_put_is_what_it_was_when_it_was_put() -> None:
    receiver, sender = channel()
    text = ["before"]
    sender.put(text)
    text[0] = "after"
    assert receiver.get(SECONDS) == ["before"]


def test_both_ends_see_that_the_other_is_gone() -> None:
    receiver, sender = channel()
    sender.put(1)
    sender.close(None)
    assert receiver.get(SECONDS) == 1
    with pytest.raises(ChannelClosed):
        receiver.get(SECONDS)
    with pytest.raises(ChannelClosed):
        sender.put(2)
    receiver, sender = channel()
    receiver.close()
    sender.put(1)
    sender._feeder.join(SECONDS)
    with pytest.raises(ChannelClosed):
        sender.put(2)


def test_an_interrupt_ends_a_wait_at_once() -> None:
    reading, _writing = Pipe(duplex=False)
    asked, ask = Pipe(duplex=False)
    receiver: Receiver[object] = Receiver(reading, interrupt=asked)
    threading.Timer(0.05, ask.send_bytes, [b"stop"]).start()
    with pytest.raises(ChannelClosed, match="asked to stop"):
        receiver.get(SECONDS)


PROMPT = Prompt("q", 0, np.arange(2, dtype=np.int32), "1")


def job(link: WorkerClient) -> Job:
    return Job(link.next_job_id(), "rollout", 3, WeightRef("a", 3, ""), (PROMPT,), 2, Sampling(1.0, 4), 0)


def completion(of: Job, sample: int, token: int) -> Completion:
    ids, logprobs = np.array([token], dtype=np.int32), np.zeros(1, dtype=np.float32)
    return Completion(of.job_id, of.kind, 3, 0, sample, ids, logprobs, "stop", "", "correct", "1")


def done(of: Job) -> JobDone:
    return JobDone(of.job_id, of.kind, 3, (0,), 2, 2, 0.0, 0.0, 0.0)


class Worker:
    """The other side of a link, by hand."""

    def __init__(self, link: WorkerClient) -> None:
        jobs_out, jobs_in = Pipe(duplex=False)
        results_out, results_in = Pipe(duplex=False)
        self.jobs: Receiver[WorkerRequest] = Receiver(jobs_out)
        self.results: Sender[WorkerResult] = Sender(results_in)
        link.connect(results_out, jobs_in)

    def die(self) -> None:
        self.results.close(None)
        self.jobs.close()


def poll_for(link: WorkerClient, count: int) -> list[WorkerResult]:
    found: list[WorkerResult] = []
    while len(found) < count:
        more = link.poll(SECONDS)
        assert more, "nothing came"
        found += more
    return found


def test_a_new_worker_gets_every_unfinished_job_whole_and_in_order() -> None:
    link = WorkerClient()
    jobs = [job(link) for _ in range(3)]
    link.submit(jobs[0])  # before there is any worker
    first = Worker(link)
    link.submit(jobs[1])
    link.submit(jobs[2])
    assert [first.jobs.get(SECONDS).job_id for _ in jobs] == [j.job_id for j in jobs]  # type: ignore[union-attr]
    for result in (
        completion(jobs[0], 0, 5),
        completion(jobs[0], 1, 6),
        done(jobs[0]),
        completion(jobs[1], 0, 7),
    ):
        first.results.put(result)
    assert len(poll_for(link, 4)) == 4
    first.die()
    second = Worker(link)
    assert [second.jobs.get(SECONDS).job_id for _ in range(2)] == [j.job_id for j in jobs[1:]]  # type: ignore[union-attr]
    assert second.jobs.get(0.0) is None


def test_progress_leaves_a_job_on_the_books_for_the_next_worker() -> None:
    link = WorkerClient()
    asked = SuiteJob(
        link.next_job_id(), 0, WeightRef("a", 0, ""), SuiteTask("mmlu", "mmlu", 0, 0, 8, 0, 0, "", 512)
    )
    link.submit(asked)
    first = Worker(link)
    first.results.put(SuiteProgress(asked.job_id, asked.kind, 3, 9))
    assert poll_for(link, 1) == [SuiteProgress(asked.job_id, asked.kind, 3, 9)]
    first.die()
    assert Worker(link).jobs.get(SECONDS) == asked


def test_what_a_dead_worker_sent_unread_and_what_nobody_asked_for_is_dropped_and_counted() -> None:
    link = WorkerClient()
    wanted = job(link)
    others = set(threading.enumerate())
    first = Worker(link)
    reader = next(thread for thread in set(threading.enumerate()) - others if thread.name == "results")
    link.submit(wanted)
    first.results.put(completion(wanted, 0, 5))
    first.results.put(done(wanted))
    first.die()
    reader.join(SECONDS)
    second = Worker(link)
    for result in (
        done(replace(wanted, job_id=1)),
        replace(done(wanted), kind="validation"),
        completion(wanted, 0, 8),
        done(wanted),
        done(wanted),
    ):
        second.results.put(result)  # type: ignore[arg-type]
    found = poll_for(link, 2)
    assert [type(result) for result in found] == [Completion, JobDone]
    assert isinstance(found[0], Completion)
    assert found[0].token_ids.tolist() == [8]
    assert link.poll(0.2) == []
    assert link.dropped == 5


def test_a_job_that_failed_is_off_the_books() -> None:
    link = WorkerClient()
    hopeless = job(link)
    link.submit(hopeless)
    worker = Worker(link)
    worker.results.put(JobFailed(hopeless.job_id, "rollout", "no such weights"))
    assert isinstance(poll_for(link, 1)[0], JobFailed)
    worker.die()
    assert Worker(link).jobs.get(0.1) is None


def test_nobody_waits_for_a_worker_that_will_not_come_back() -> None:
    link = WorkerClient()
    link.submit(job(link))
    threading.Timer(0.05, link.end).start()
    assert link.poll(SECONDS) == []  # the poll under way ends, and whoever waits can see that he is to stop
    assert link.poll(0.0) == []
    with pytest.raises(StopRequested):
        link.poll(SECONDS)


class Connection:
    """Takes what an outbox sends; breaks when told to."""

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.batches = 0
        self.arrived = threading.Semaphore(0)
        self.broken = False

    def send(self, message: FromChild) -> None:
        if self.broken:
            raise BrokenPipeError
        self.batches += 1
        self.sent += message
        for _ in message:
            self.arrived.release()


def scalars(count: int) -> list[Scalar]:
    return [Scalar("m", step, 0.0, 0.0) for step in range(count)]


def test_records_travel_in_order_and_in_company(tmp_path: Path) -> None:
    connection = Connection()
    outbox = Outbox(connection, tmp_path / "spool")
    for record in scalars(1200):
        outbox.put(record)
    outbox.put(MainReturned(0))
    for _ in range(1201):
        assert connection.arrived.acquire(timeout=SECONDS)
    assert connection.sent == [*scalars(1200), MainReturned(0)]
    assert connection.batches < 60


def test_settle_returns_when_everything_is_acknowledged(tmp_path: Path) -> None:
    connection = Connection()
    outbox = Outbox(connection, tmp_path / "spool")
    for record in scalars(3):
        outbox.put(record)
    settled = threading.Event()
    threading.Thread(target=lambda: (outbox.flush(), settled.set())).start()
    for _ in range(4):
        assert connection.arrived.acquire(timeout=SECONDS)
    assert connection.sent[-1] == Flush()
    outbox.acknowledge(2)
    assert not settled.wait(0.05)
    outbox.acknowledge(3)
    assert settled.wait(SECONDS)


def test_the_end_waits_until_the_last_records_are_safe(tmp_path: Path) -> None:
    connection = Connection()
    outbox = Outbox(connection, tmp_path / "spool")
    outbox.put(Scalar("m", 0, 0.0))
    outbox.put(MainReturned(0))
    closed = threading.Event()
    threading.Thread(target=lambda: (outbox.close(SECONDS), closed.set())).start()
    for _ in range(3):
        assert connection.arrived.acquire(timeout=SECONDS)
    assert not closed.wait(0.05)
    outbox.acknowledge(1)
    assert closed.wait(SECONDS)


def test_an_orphan_leaves_what_was_not_acknowledged(tmp_path: Path) -> None:
    connection = Connection()
    outbox = Outbox(connection, tmp_path / "new" / "spool.jsonl")
    for record in scalars(5):
        outbox.put(record)
    for _ in range(5):
        assert connection.arrived.acquire(timeout=SECONDS)
    outbox.acknowledge(2)
    connection.broken = True
    outbox.put(Scalar("m", 5, 0.0, 0.0))
    outbox.flush()
    outbox.close(SECONDS)
    kept = [Scalar("m", step, 0.0, 0.0) for step in range(2, 6)]
    assert read_spool(tmp_path / "new" / "spool.jsonl") == (kept, 0)


def test_a_boundary_makes_the_record_safe_before_it_saves() -> None:
    order: list[str] = []
    control = StepControl(lambda notice: None, lambda: order.append("settled"))
    control.boundary(lambda: order.append("saved"))
    assert order == []
    control.checkpoint()
    control.boundary()  # cannot save here: the checkpoint waits for a boundary that can
    control.boundary(lambda: order.append("saved"))
    assert order == ["settled", "saved"]
    control.pause()
    control.stop()
    with pytest.raises(StopRequested):
        control.boundary(lambda: order.append("saved"))
    assert order == ["settled", "saved"] * 2
