"""`serve`: what it starts, how it knows that the right model answers, and how it ends; at last vLLM itself."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from engine.artifacts import digests
from engine.context import StageFailed
from engine.data.tiny_model import make_model, make_tokenizer
from engine.errors import LaunchError
from engine.ipc.log_parts import PART_BYTES, rotate
from engine.machine.gpus import Gpu, GpuQueue
from engine.server_client.models import only_model
from engine.startup import launch, serve, server_log
from profiles.load import load
from profiles.training import Pretrain
from store.home import RunFolder
from store.process import Process
from tests.support.command_line import mathrl
from tests.support.small_experiment import examples, finish, make_inputs

FAKE = """
import http.server, json, os, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])  # like vLLM's engine: a process of its own
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        key = os.environ.get("VLLM_API_KEY")
        if key and self.headers["Authorization"] != f"Bearer {key}":
            return self.send_error(401)
        text = json.dumps({"data": [{"id": sys.argv[1], "root": "x"}]}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(text))); self.end_headers()
        self.wfile.write(text)
http.server.HTTPServer((sys.argv[-3], int(sys.argv[-1])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's place is taken by a server of a few lines, which lists the model under the name `says`."""
    monkeypatch.setattr(serve, "find_spec", lambda name: True)
    monkeypatch.setattr(serve, "CPU_ARGUMENTS", [])

    def command(model: str, name: str) -> list[str]:
        program = "raise ValueError('no such model')" if model == "bad" else FAKE
        return [sys.executable, "-c", program, Path(model).name]

    monkeypatch.setattr(serve, "command", command)


def test_a_server_is_ready_when_its_model_answers_and_ends_as_a_whole(fake: None, tmp_path: Path) -> None:
    server = serve.start(tmp_path, "tuned", "tuned", free_port())
    serve.await_ready(server, 60.0)
    assert serve.servers(tmp_path) == [server]
    assert os.getsid(server.pid) == server.pid  # no terminal is left to end it
    with pytest.raises(LaunchError, match=rf"port {server.port}: another server uses it"):
        serve.start(tmp_path, "tuned", "tuned", server.port)
    serve.stop(server)
    assert serve.servers(tmp_path) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(server.pid, 0)
    serve.stop(server)  # nothing is left to end


def test_another_model_in_its_place_and_an_end_before_it_is_ready_are_told(
    fake: None, tmp_path: Path
) -> None:
    server = serve.start(tmp_path, "other", "tuned", free_port())
    with pytest.raises(serve.ServerFailed, match=rf"port {server.port}: other answers there, not tuned"):
        serve.await_ready(server, 60.0)
    serve.stop(server)
    server = serve.start(tmp_path, "bad", "bad", free_port())
    with pytest.raises(
        serve.ServerFailed, match="serve bad: vLLM ended: ValueError: no such model; its log is"
    ):
        serve.await_ready(server, 60.0)


def test_a_process_of_its_own_bounds_the_servers_log_and_exits_with_it(
    fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    begin = server_log.start
    monkeypatch.setattr(server_log, "start", lambda server, log: started.append(begin(server, log)))
    server = serve.start(tmp_path, "tuned", "tuned", free_port())
    serve.await_ready(server, 60.0)
    serve.stop(server)
    ((_, status),) = [os.waitpid(pid, 0) for pid in started]
    assert status == 0


def test_a_log_that_is_too_long_is_cut_until_the_server_exits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "8000.log"
    log.write_bytes(b"first\n" + bytes(PART_BYTES))
    with log.open("ab") as output:
        server = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=output)
    assert server.stdin is not None

    def rotated(path: Path) -> bool:
        """The server writes once more and exits after the first cut."""
        done = rotate(path)
        if done:
            server.communicate(b"last\n")
        return done

    monkeypatch.setattr(server_log, "rotate", rotated)
    server_log.keep(Process.of(server.pid), log, seconds=0.0)
    assert server.wait(10) == 0
    assert log.read_bytes() == b"last\n"
    assert (tmp_path / "8000.first.log").read_bytes().startswith(b"first\n")


def test_another_address_needs_a_key_which_no_command_line_shows(
    fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    for host in ("0.0.0.0", "::", "10.0.0.7", "", "gpu-box"):
        with pytest.raises(LaunchError, match=f"^serve --host {host}: other machines could .* VLLM_API_KEY"):
            serve.start(tmp_path, "tuned", "tuned", free_port(), host=host)
    assert all(map(serve.is_loopback, ("127.0.0.1", "127.8.0.1", "::1", "localhost")))
    monkeypatch.setenv("VLLM_API_KEY", "a-secret")
    server = serve.start(tmp_path, "tuned", "tuned", free_port(), host="0.0.0.0")
    try:
        serve.await_ready(server, 60.0)
        assert server.url == f"http://127.0.0.1:{server.port}/v1"
        assert serve.servers(tmp_path) == [server]
        assert b"a-secret" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
        assert "a-secret" not in (tmp_path / "servers" / f"{server.port}.json").read_text()
        assert serve.lm_eval_command(server).startswith('OPENAI_API_KEY="$VLLM_API_KEY" lm-eval run')
        assert only_model(server.url).name == "tuned"
        monkeypatch.delenv("VLLM_API_KEY")
        with pytest.raises(StageFailed, match="HTTP 401 Unauthorized; set its key in VLLM_API_KEY"):
            only_model(server.url)
    finally:
        serve.stop(server)


def test_the_address_is_given_to_serve_and_not_past_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for argument in ("--host=0.0.0.0", "--port", "--api-key=x"):
        with pytest.raises(LaunchError, match=f"^serve --vllm {argument.partition('=')[0]}: use "):
            serve.start(tmp_path, "tuned", "tuned", free_port(), arguments=[argument])
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    found = mathrl(tmp_path, "serve", "tuned", "--host", "0.0.0.0")
    assert (found.returncode, found.stdout) == (2, "")
    assert len(found.stderr.splitlines()) == 1 and "serve --host 0.0.0.0: other machines" in found.stderr


def test_a_damaged_checkpoint_is_not_served(fake: None, tmp_path: Path) -> None:
    folder = tmp_path / "step_000001"
    make_model(Pretrain(layers=1), make_tokenizer(512), 0).save_pretrained(folder)
    make_tokenizer(512).save_pretrained(folder)
    digests.write_list(folder, {})
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(LaunchError, match=f"^serve: {path} is damaged"):
        serve.start(tmp_path, str(folder), "tuned", free_port())


@pytest.mark.parametrize(("visible", "device"), [(None, "1"), ("2, 3", "3"), ("GPU-c,GPU-d", "GPU-d")])
def test_the_server_sees_the_gpu_whose_lock_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, device: str
) -> None:
    """GPU 1 of a shell that sees but some of the machine's is another one to a process that sees all."""
    monkeypatch.setattr(serve, "find_spec", lambda name: True)
    monkeypatch.setattr(serve, "visible_gpus", lambda: [Gpu(n, f"GPU-{n}", "H100", 80.0) for n in range(2)])
    monkeypatch.setattr(serve, "GpuQueue", partial(GpuQueue, root=tmp_path / "locks"))
    tell = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['CUDA_DEVICE_ORDER'])"
    monkeypatch.setattr(serve, "command", lambda *_: [sys.executable, "-c", tell])
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    server = serve.start(tmp_path, "tuned", "tuned", free_port(), gpu=1)
    with pytest.raises(serve.ServerFailed, match="vLLM ended"):
        serve.await_ready(server, 60.0)
    assert Path(server.log).read_text().split() == [device, "PCI_BUS_ID"]


def test_wrong_words_are_one_line(tmp_path: Path) -> None:
    found = mathrl(tmp_path, "serve", "nothing", "--stop")
    assert (found.returncode, found.stdout) == (2, "")
    assert "serve nothing --stop: no such server was started" in found.stderr


@pytest.mark.vllm
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("vllm", "uvicorn", "watchfiles")),
    reason="vLLM's server is not installed",
)
def test_vllm_serves_a_model_that_a_run_asks(tmp_path: Path) -> None:
    profile, model = make_inputs(tmp_path), tmp_path / "model"
    tokenizer = make_tokenizer(512)
    make_model(Pretrain(layers=1), tokenizer, 0).save_pretrained(model)  # in place of the one of words
    tokenizer.save_pretrained(model)
    port = free_port()
    started = mathrl(tmp_path, "serve", str(model), "--name", "tiny", "--port", str(port), timeout=280.0)
    try:
        assert started.returncode == 0, started.stderr
        assert f"tiny answers at http://127.0.0.1:{port}/v1" in started.stdout
        line = next(line for line in started.stdout.splitlines() if line.strip().startswith("lm-eval run"))
        words = shlex.split(line)
        arguments = words[words.index("--model_args") + 1]
        assert f"model=tiny,base_url=http://127.0.0.1:{port}/v1/completions,tokenizer={model}" in arguments
        settings = [f"eval.server=http://127.0.0.1:{port}/v1", "eval.limit=6", "hardware.max_model_len=200"]
        run = launch.start_run(tmp_path, load(str(profile), settings), ("data", "preprocess", "eval"), 0)
        folder = RunFolder(tmp_path, run)
        finish(folder)
        rows = examples(folder)
        assert [row.arm for row in rows] == ["base"] * 6  # the server's root is the base arm's model
        assert all(row.outcome != "error" and 0 < row.tokens <= 8 for row in rows)
    finally:
        stopped = mathrl(tmp_path, "serve", "tiny", "--stop")
    assert stopped.returncode == 0, stopped.stderr
    server = json.loads((tmp_path / "servers" / f"{port}.json").read_text())
    with pytest.raises(ProcessLookupError):
        os.killpg(server["pid"], 0)
