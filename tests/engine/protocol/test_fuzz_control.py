"""Any bytes on the control socket: a reply in words or none, and the supervisor's side goes on."""

from __future__ import annotations

import json
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol.control import COMMANDS, ControlServer, Reply, Request, parse, short_address
from store.home import RunFolder
from tests.support.fuzzing import NESTED, fuzz

JSON = NESTED.map(lambda value: json.dumps(value).encode())
REQUESTS = st.fixed_dictionaries(
    {}, optional={"command": st.sampled_from(COMMANDS) | NESTED, "origin": NESTED, "other": NESTED}
).map(lambda value: json.dumps(value).encode())
DEEP = st.builds(
    lambda part, count: part * count, st.sampled_from([b"[", b'{"a":', b"9"]), st.integers(1, 5000)
)
BYTES = st.one_of(st.binary(max_size=200), JSON, REQUESTS, DEEP)


def answer(folder: RunFolder, server: ControlServer, parts: list[bytes], *, hang_up: bool) -> bytes:
    """What a client gets that sends `parts` and then waits, or hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, short_address(folder.socket) as address:
        client.connect(address)
        client.settimeout(0.0)
        for part in [*parts, b""]:
            try:
                client.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                break
            for asker, request in server.requests(server.sockets):
                server.reply(asker, Reply(True, request.command))
        if hang_up:
            client.shutdown(socket.SHUT_WR)
        for _ in range(3):
            for asker, request in server.requests(server.sockets):
                server.reply(asker, Reply(True, request.command))
        try:
            return client.recv(65536)
        except (BlockingIOError, ConnectionResetError):
            return b""


@fuzz(300)
@given(BYTES)
def test_a_line_is_a_request_or_an_error_in_words(line: bytes) -> None:
    try:
        request = parse(line)
    except ValueError as error:
        assert str(error)
        return
    assert isinstance(request, Request)
    assert request.command in COMMANDS
    assert len(request.origin) <= 100


@pytest.fixture(scope="module")
def served() -> Any:
    """A run folder and its server."""
    with tempfile.TemporaryDirectory() as home:
        folder = RunFolder(Path(home), "run")
        folder.path.mkdir(parents=True)
        server = ControlServer(folder)
        yield folder, server
        server.close()


@fuzz(120)
@given(parts=st.lists(BYTES | st.just(b"\n"), max_size=4), hang_up=st.booleans())
def test_whatever_a_client_sends_the_next_one_is_answered(
    served: Any, parts: list[bytes], hang_up: bool
) -> None:
    folder, server = served
    reply = answer(folder, server, parts, hang_up=hang_up)
    assert not reply or isinstance(json.loads(reply)["ok"], bool)
    asked = json.dumps({"command": "status", "origin": "test"}).encode() + b"\n"
    assert json.loads(answer(folder, server, [asked], hang_up=False))["message"] == "status"
