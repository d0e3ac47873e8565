"""The run's own tasks put to an OpenAI-compatible server, by a real run and a server in this process."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.context import StageFailed
from engine.errors import LaunchError
from engine.plan import make_plan, needs_worker
from engine.protocol.messages import (
    Completion,
    Job,
    JobDone,
    JobFailed,
    Prompt,
    Sampling,
    WeightRef,
    WorkerResult,
)
from engine.server_client.client import ATTEMPTS, CONCURRENCY, Served
from engine.server_client.connection import ServerConnection
from engine.server_client.errors import HttpStatus, NoAnswer
from engine.server_client.models import ServedModel, only_model
from engine.server_client.tokenizer import ServerTokenizer
from engine.startup import launch
from profiles.load import load
from store.home import RunFolder
from store.journal import read
from store.query import Store
from store.records import Event
from tests.support.small_experiment import examples, finish, make_inputs


class Server(ThreadingHTTPServer):
    """Answers `a + b` with b, a question about 13 with an error, and keeps what it was asked."""

    daemon_threads = True
    request_queue_size = CONCURRENCY

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models: list[dict[str, str]] = [{"id": "tuned", "root": "somewhere/else"}]
        self.asked: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.tokenises = False
        self.tries: dict[str, int] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._send(200, {"data": self.server.models})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/completions":
            self._tokenise(body)
            return
        self.server.asked.append(body)
        self.server.times.append(time.monotonic())
        prompt = body["prompt"]
        if isinstance(prompt, list):
            self._send(200, answer("#### 3", 2))
            return
        first, second = re.findall(r"(\d+) \+ (\d+)", prompt)[-1]
        tries = self.server.tries[prompt] = self.server.tries.get(prompt, 0) + 1
        if first == "13":
            self._send(400, {"error": "no"})
        elif first == "7" and tries < 2:
            self._send(503, {"error": "later"})
        elif first == "8" and tries < 2:
            self._send(429, {"error": "slow down"}, {"Retry-After": "0.5"})
        else:
            self._send(200, answer(f" #### {second}", 3))

    def _tokenise(self, body: dict[str, Any]) -> None:
        """As a server whose tokenizer puts 1 before a text and 2 behind it, and has a token for each letter."""
        if not self.server.tokenises or self.path != "/tokenize":
            self._send(404, {"error": "not found"})
            return
        ids = [ord(letter) for letter in body["prompt"]]
        self._send(200, {"tokens": [1, *ids, 2] if body["add_special_tokens"] else ids})

    def _send(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        return None


def answer(text: str, tokens: int) -> dict[str, Any]:
    return {"choices": [{"text": text, "finish_reason": "stop"}], "usage": {"completion_tokens": tokens}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("engine.server_client.client.PAUSE_SECONDS", 0.01)
    found = Server()
    yield found
    found.shutdown()
    found.server_close()


def test_a_run_asks_a_server_and_needs_no_worker(server: Server, tmp_path: Path) -> None:
    settings = [f"eval.server={server.url}/", "eval.shots=[0]"]
    profile = load(str(make_inputs(tmp_path)), settings)
    stages = ("data", "traces", "preprocess", "eval")
    assert not needs_worker(profile, make_plan(profile, stages))
    folder = RunFolder(tmp_path, launch.start_run(tmp_path, profile, stages, 0))
    finish(folder)
    store = Store(tmp_path)
    store.ingest()
    assert store.status(folder.run_id).state == "done"
    rows = {row.ex_id: row for row in examples(folder)}
    assert {(row.arm, row.task) for row in rows.values()} == {("served", "rows")}
    outcomes = {row.prompt.split("Question: ")[-1].split(" ")[0]: set[str]() for row in rows.values()}
    for row in rows.values():
        outcomes[row.prompt.split("Question: ")[-1].split(" ")[0]].add(row.outcome)
    assert outcomes.pop("13") == {"error"}
    assert set.union(*outcomes.values()) == {"correct"}
    (shown,) = store.evaluations(folder.run_id)
    assert (shown.n, shown.rate) == (
        37,
        pytest.approx(1 - sum(r.outcome == "error" for r in rows.values()) / 37),
    )
    assert {body["model"] for body in server.asked} == {"tuned"}
    assert {(body["temperature"], body["max_tokens"]) for body in server.asked} == {(0.0, 8)}
    assert all(body["stop"] == ["\nQuestion:"] for body in server.asked)
    assert max(server.tries.values()) == 2
    warned = [
        row.message for row in read(folder.journal)[0] if isinstance(row, Event) and "as text" in row.message
    ]
    assert len(warned) == 1 and "HTTP 404 Not Found" in warned[0]


def job(job_id: int, question: str) -> Job:
    prompt = Prompt("q", 0, np.array([4, 5], dtype=np.int32), "3", question)
    return Job(job_id, "evaluation", 0, WeightRef("base", 0, "x"), (prompt,), 2, Sampling(0.7, 5), 1)


def results(served: Served) -> list[WorkerResult]:
    found: list[WorkerResult] = []
    while not found or isinstance(found[-1], Completion):
        found += served.poll(5.0)
    return found


def test_a_checkpoint_of_ours_is_asked_by_token_ids_and_samples_have_their_own_seeds(server: Server) -> None:
    served = Served(server.url, ServedModel("tuned", "x"), by_ids=True)
    served.submit(job(served.next_job_id(), "1 + 3"))
    *completions, done = results(served)
    assert isinstance(done, JobDone)
    assert [each.outcome for each in completions if isinstance(each, Completion)] == ["correct"] * 2
    assert [body["prompt"] for body in server.asked] == [[4, 5]] * 2
    assert len({body["seed"] for body in server.asked}) == 2


def test_a_server_that_puts_a_request_off_gets_it_no_sooner(server: Server) -> None:
    served = Served(server.url, ServedModel("tuned", ""), by_ids=False)
    served.submit(replace(job(served.next_job_id(), "8 + 3"), samples=1))
    *_, done = results(served)
    assert isinstance(done, JobDone)
    first, second = server.times
    assert second - first >= 0.5


def test_another_models_server_is_asked_in_its_own_tokens(server: Server) -> None:
    """A plain prompt is led by its BOS once, a chat prompt has what its template wrote; neither ends in EOS."""
    with pytest.raises(HttpStatus, match="404"):
        ServerTokenizer(server.url, "tuned")
    server.tokenises = True
    served = Served(server.url, ServedModel("tuned", ""), False, ServerTokenizer(server.url, "tuned").encode)
    for special in (True, False):
        (prompt,) = job(0, "1 + 3").prompts
        asked = replace(job(served.next_job_id(), ""), prompts=(replace(prompt, special=special),), samples=1)
        served.submit(asked)
        results(served)
    letters = [ord(letter) for letter in "1 + 3"]
    assert [body["prompt"] for body in server.asked] == [[1, *letters], letters]


def test_a_job_of_which_nothing_is_answered_fails(server: Server) -> None:
    served = Served(server.url, ServedModel("tuned", ""), by_ids=False)
    served.submit(job(served.next_job_id(), "13 + 3"))
    *_, last = results(served)
    assert isinstance(last, JobFailed)
    assert "HTTP 400" in last.error


@pytest.mark.parametrize("others", [True, False])
def test_a_reset_connection_of_a_server_that_answers_others_is_asked_again(
    server: Server, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    """A short queue of connections is no wrong answer; a server that answers nothing is asked ATTEMPTS times."""
    served = Served(server.url, ServedModel("tuned", ""), by_ids=False)
    resets: list[str] = []
    ended = threading.Event()

    def post(connection: ServerConnection, path: str, body: dict[str, Any]) -> Any:
        if body["prompt"] == "other":
            return answer("#### 3", 3)
        if len(resets) == ATTEMPTS + 2:
            ended.set()
            return answer("#### 3", 3)
        resets.append(body["prompt"])
        if others:
            served.submit(replace(job(served.next_job_id(), "other"), samples=1))
            results(served)
        elif len(resets) == ATTEMPTS:
            ended.set()
        raise NoAnswer("ReadError: Connection reset by peer", sent=True, lost=True)

    monkeypatch.setattr(ServerConnection, "post", post)
    (prompt,) = job(0, "1 + 3").prompts
    served.submit(replace(job(served.next_job_id(), ""), prompts=(prompt,), samples=1))
    assert ended.wait(60.0)
    *_, last = results(served)
    assert (type(last), len(resets)) == ((JobDone, ATTEMPTS + 2) if others else (JobFailed, ATTEMPTS))


@pytest.mark.parametrize(("models", "end"), [(["tuned"], JobDone), (["other"], JobFailed), ([], JobFailed)])
def test_a_server_that_is_gone_at_the_end_has_not_judged_the_model(
    server: Server, monkeypatch: pytest.MonkeyPatch, models: list[str], end: type
) -> None:
    """One sample of two is not answered: an error of the model's server, or a server that is another's or nobody's."""
    monkeypatch.setattr("engine.server_client.client.ATTEMPTS", 1)
    served = Served(server.url, ServedModel("tuned", ""), by_ids=False)
    server.models = [{"id": name, "root": ""} for name in models]
    served.submit(job(served.next_job_id(), "7 + 3"))
    *_, last = results(served)
    assert isinstance(last, end)
    if isinstance(last, JobFailed):
        assert "no longer serves tuned (last fault: HTTP 503" in last.error


def test_a_server_that_is_none_or_serves_several_is_named(server: Server, tmp_path: Path) -> None:
    server.models.append({"id": "other", "root": ""})
    with pytest.raises(StageFailed, match="serves tuned, other"):
        only_model(server.url)
    with pytest.raises(StageFailed, match=r"eval\.server http://127\.0\.0\.1:9/v1: no OpenAI"):
        only_model("http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n[1]",
        b'HTTP/1.0 200 OK\r\n\r\n{"data": ["tuned"]}',
    ],
)
def test_what_speaks_another_protocol_is_named(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            caller, _ = listener.accept()
            with caller:
                caller.recv(4096)
                caller.sendall(said)

        threading.Thread(target=speak, daemon=True).start()
        with pytest.raises(StageFailed, match="no OpenAI-compatible server answers there"):
            only_model(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (['eval.suite=["mmul"]'], r"eval\.suite: lm-eval has no task mmul; did you mean mmlu\?"),
        (['eval.suite=["mmlu"]', "eval.suite_data=/nowhere"], r"eval\.suite_data /nowhere: no such folder"),
        (['eval.suite=["mmlu"]', "eval.suite_data={empty}"], "holds no rows for mmlu"),
    ],
)
def test_a_suite_that_cannot_be_is_told_before_anything_starts(
    settings: list[str], complaint: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    profile = load(str(make_inputs(tmp_path)), [text.format(empty=tmp_path / "empty") for text in settings])
    with pytest.raises(LaunchError, match=complaint):
        launch.start_run(tmp_path / "home", profile, ("data", "preprocess", "eval"), 0)
    assert not (tmp_path / "home").exists()
