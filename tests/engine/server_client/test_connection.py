"""Requests through `openai`: what is sent, and how each fault of a server is translated."""

from __future__ import annotations

import ast
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from engine.server_client.connection import AsyncServerConnection, ServerConnection
from engine.server_client.errors import HttpStatus, NoAnswer
from engine.server_client.retry_after import retry_after
from tests.support.places import ROOT

Post = Callable[[str, dict[str, Any]], Awaitable[Any]]


def response(status: str, body: str, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()


@contextmanager
def answering(answer: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the URL of a server of one request, and a list that gets the request.

    It answers with raw bytes and closes the connection; None resets it.
    """
    requests: list[bytes] = []

    def serve() -> None:
        caller, _ = listener.accept()
        with caller:
            request = b""
            while b"\r\n\r\n" not in request:
                request += caller.recv(65536)
            head, _, body = request.partition(b"\r\n\r\n")
            lengths = [
                line.split(b":")[1] for line in head.lower().split(b"\r\n") if b"content-length" in line
            ]
            while lengths and len(body) < int(lengths[0]):
                body += caller.recv(65536)
            requests.append(head + b"\r\n\r\n" + body)
            if answer is None:
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                caller.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", requests
        thread.join(60)


async def from_threads(url: str, body: dict[str, Any]) -> Any:
    with ServerConnection(url, "a-key", 5.0) as server:
        return server.post("/completions", body)


async def from_loop(url: str, body: dict[str, Any]) -> Any:
    async with AsyncServerConnection(url, "a-key", 5.0) as server:
        return await server.post("/completions", body)


both = pytest.mark.parametrize("post", [from_threads, from_loop])


@both
async def test_the_request_is_json_with_the_key_and_text_survives(post: Post) -> None:
    asked = {"prompt": "½ \ud83d", "stop": None, "ids": [1, 2]}
    # Without Content-Type, and with half an emoji.
    with answering(response("200 OK", '{"text": "\\ud83d ½"}')) as (url, requests):
        assert await post(url, asked) == {"text": "\ud83d ½"}
    head, _, body = requests[0].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /v1/completions http/1.1"
    assert b"authorization: bearer a-key" in lines and b"content-type: application/json" in lines
    assert json.loads(body) == asked


def test_nothing_meant_for_openais_own_server_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "private-of-the-user")
    for key in ("", "a-key"):
        with (
            answering(response("200 OK", "{}")) as (url, requests),
            ServerConnection(url, key, 5.0) as server,
        ):
            assert server.get("/models") == {}
        assert b"private-of-the-user" not in requests[0]
        assert (b"authorization" in requests[0].lower()) == bool(key)


@both
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error": {"message": "no such\\n model"}}', "HTTP 429 Too Many Requests: no such model"),
        ('{"message": "busy"}', "HTTP 429 Too Many Requests: busy"),
        ('{"error": "busy"}', 'HTTP 429 Too Many Requests: {"error": "busy"}'),
        ("[" * 100_000, "HTTP 429 Too Many Requests: " + "[" * 500),
        ("", "HTTP 429 Too Many Requests"),
    ],
)
async def test_an_http_error_keeps_status_message_and_headers(post: Post, body: str, message: str) -> None:
    answer = response("429 Too Many Requests", body, "Retry-After: 7\r\n")
    with answering(answer) as (url, _), pytest.raises(HttpStatus) as caught:
        await post(url, {})
    assert (caught.value.status, str(caught.value)) == (429, message)
    assert retry_after(caught.value.headers, 60.0) == 7.0


@both
@pytest.mark.parametrize(
    ("answer", "lost"),
    [
        # Reset, and closed without an answer.
        (None, True),
        (b"", True),
        (b"SSH-2.0-OpenSSH_9.6 of a quite different protocol\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", False),
        (response("200 OK", "<html>"), False),
        (response("200 OK", "[" * 100_000), False),
        (response("200 OK", "{}", "Content-Encoding: gzip\r\n"), False),
    ],
)
async def test_an_answer_that_cannot_be_used_was_sent(post: Post, answer: bytes | None, lost: bool) -> None:
    with answering(answer) as (url, _), pytest.raises(NoAnswer) as caught:
        await post(url, {})
    assert caught.value.sent
    assert caught.value.lost == lost


@both
async def test_a_request_that_cannot_be_sent_is_marked(post: Post) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(NoAnswer, match="ConnectError: ") as caught:
            await post(f"http://127.0.0.1:{free.getsockname()[1]}/v1", {})
    assert (caught.value.sent, caught.value.lost) == (False, True)
    for url in ("http://[::1/v1", "http://192.168.1.300:8000/v1", "http://host:80x/v1"):
        with pytest.raises(NoAnswer, match="invalid URL") as caught:
            await post(url, {})
        assert not caught.value.sent


def test_a_key_that_no_header_can_hold_is_not_an_answer() -> None:
    server = ServerConnection("http://127.0.0.1:9/v1", "clé", 5.0)
    with server, pytest.raises(NoAnswer, match="the request cannot be sent") as caught:
        server.get("/models")
    assert not caught.value.sent


def test_only_the_connection_imports_openai() -> None:
    importers = set()
    for room in ("mathrl_tui", "engine", "store", "profiles"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if any(name.partition(".")[0] == "openai" for name in names):
                    importers.add(path.relative_to(ROOT).as_posix())
    assert importers == {"engine/server_client/connection.py"}
