"""The control socket: what strangers, slow and rude clients get, and what a dead run answers."""

from __future__ import annotations

import json
import os
import select
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.protocol.control import (
    LONGEST_REQUEST,
    MOST_CLIENTS,
    ControlServer,
    NotLive,
    Reply,
    Request,
    ask,
    parse,
    short_address,
)
from store.home import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / ("x" * 150), "run")
    made.path.mkdir(parents=True)
    return made


@pytest.fixture
def server(folder: RunFolder) -> Iterator[ControlServer]:
    opened = ControlServer(folder)
    yield opened
    opened.close()


def serve(server: ControlServer, until: threading.Event, seen: list[Request]) -> None:
    while not until.is_set():
        ready, _, _ = select.select(server.sockets, [], [], 0.05)
        for client, request in server.requests(ready):
            seen.append(request)
            server.reply(client, Reply(True, "done", {"state": "running"}))


@pytest.fixture
def seen(server: ControlServer) -> Iterator[list[Request]]:
    requests: list[Request] = []
    over = threading.Event()
    thread = threading.Thread(target=serve, args=(server, over, requests))
    thread.start()
    yield requests
    over.set()
    thread.join()


def raw(folder: RunFolder, *parts: bytes) -> dict[str, object]:
    """The reply to bytes as they are."""
    with socket.socket(socket.AF_UNIX) as client, short_address(folder.socket) as address:
        client.connect(address)
        for part in parts:
            client.sendall(part)
        reply: dict[str, object] = json.loads(client.makefile().readline())
        return reply


def test_a_command_and_its_reply(folder: RunFolder, seen: list[Request]) -> None:
    assert ask(folder, "pause", "console") == Reply(True, "done", {"state": "running"})
    assert seen == [Request("pause", "console")]


def test_the_socket_is_its_owners_whatever_the_umask(folder: RunFolder, server: ControlServer) -> None:
    assert stat.S_IMODE(folder.socket.stat().st_mode) == 0o600
    assert len(os.fsencode(folder.socket)) > 107


def test_requests_that_are_none_get_a_line_that_says_why(folder: RunFolder, seen: list[Request]) -> None:
    assert raw(folder, b"pause\n")["message"] == "not a JSON object on one line"
    assert "with one of stop, kill" in str(raw(folder, b'{"command": "halt"}\n')["message"])
    assert "with one of" in str(raw(folder, b"[]\n")["message"])
    assert "at most 4096 bytes" in str(raw(folder, b"x" * LONGEST_REQUEST)["message"])
    assert seen == []


def test_brackets_within_brackets_are_no_request() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # Python's own, which some library of the tests may have raised
    try:
        with pytest.raises(ValueError, match="not a JSON object on one line"):
            parse(b"[" * (LONGEST_REQUEST - 1) + b"\n")
    finally:
        sys.setrecursionlimit(limit)


def test_a_request_in_pieces_is_one_request(folder: RunFolder, seen: list[Request]) -> None:
    assert raw(folder, b'{"comm', b'and": "stop"', b"}\n")["ok"] is True
    assert seen == [Request("stop", "")]


def test_silent_clients_hold_up_nobody(folder: RunFolder, seen: list[Request]) -> None:
    with short_address(folder.socket) as address:
        silent = [socket.socket(socket.AF_UNIX) for _ in range(5)]
        for client in silent:
            client.connect(address)
        silent[0].close()
        assert ask(folder, "status").ok
        for client in silent:
            client.close()


def test_silent_clients_do_not_use_up_the_descriptors(
    folder: RunFolder, server: ControlServer, seen: list[Request]
) -> None:
    with ExitStack() as clients, short_address(folder.socket) as address:
        for _ in range(3 * MOST_CLIENTS):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(address)
            assert ask(folder, "status").ok  # so that all before it have been let in
        assert len(server.sockets) <= MOST_CLIENTS + 1


def test_a_run_without_a_supervisor_says_so(folder: RunFolder) -> None:
    with pytest.raises(
        NotLive, match="run run: no supervisor is running; .* `mathrl-tui run --resume run` continues it"
    ):
        ask(folder, "stop")
    with socket.socket(socket.AF_UNIX) as left_behind, short_address(folder.socket) as address:
        left_behind.bind(address)
    with pytest.raises(NotLive, match="no supervisor is running"):
        ask(folder, "stop")
    ControlServer(folder).close()


def test_a_supervisor_that_hangs_is_not_waited_for(folder: RunFolder, server: ControlServer) -> None:
    with pytest.raises(NotLive, match=r"has not answered for 0\.1 s"):
        ask(folder, "stop", timeout=0.1)


def test_a_supervisor_that_hangs_and_is_asked_again_and_again_is_not_waited_for(
    folder: RunFolder, server: ControlServer
) -> None:
    for _ in range(130):  # Python lets 128 wait for `accept`
        with pytest.raises(NotLive, match="has not answered"):
            ask(folder, "status", timeout=0.001)
