"""Commands to a live run over the Unix socket in its folder: one JSON object a line, one request a connection.

    {"command": "pause", "origin": "console"}
    {"ok": true, "message": "pauses after the current step", "status": {…}}

Only the run's owner may connect (mode 0600). The socket is reached through the descriptor of its folder, as the name
itself may be longer than the 107 bytes that a socket address holds.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from store.home import RunFolder

Command = Literal["stop", "kill", "pause", "resume", "checkpoint", "status"]
COMMANDS: tuple[Command, ...] = get_args(Command)
LONGEST_REQUEST = 4096  # bytes
MOST_CLIENTS = 64  # whose request has not come; a descriptor each, of which a process has 1,024 as a rule
LONGEST_ANSWER = 1 << 20  # bytes
PATIENCE_SECONDS = 10.0
RETRY_SECONDS = 0.05


class NotLive(ConnectionError):
    """No supervisor answers for this run."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks; `origin` says who, for the record."""

    command: Command
    origin: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What the supervisor answers. `status`: state, reason, trouble and processes ({role, pid, alive})."""

    ok: bool
    message: str
    status: dict[str, Any] = field(default_factory=dict)


def ask(folder: RunFolder, command: Command, origin: str = "cli", timeout: float | None = None) -> Reply:
    """Sends `command` to the run's supervisor and returns its reply. Raises NotLive."""
    patience = PATIENCE_SECONDS if timeout is None else timeout
    request = json.dumps({"command": command, "origin": origin}).encode() + b"\n"
    try:
        line = _exchanged(folder.socket, request, time.monotonic() + patience)
    except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
        raise NotLive(
            f"run {folder.run_id}: no supervisor is running; `mathrl-tui status {folder.run_id}` shows how it ended, "
            f"`mathrl-tui run --resume {folder.run_id}` goes on"
        ) from None
    except TimeoutError:
        raise NotLive(f"run {folder.run_id}: its supervisor has not answered for {patience:g} s") from None
    if not line.endswith(b"\n"):
        raise NotLive(f"run {folder.run_id}: its supervisor ended without an answer")
    try:
        return Reply(**json.loads(line))
    except (TypeError, ValueError, RecursionError):
        raise NotLive(f"run {folder.run_id}: what answers at {folder.socket} is no supervisor") from None


def _exchanged(path: Path, request: bytes, deadline: float) -> bytes:
    """Send `request` and return the line that answers it, or its beginning. Raises: OSError, TimeoutError."""
    with socket.socket(socket.AF_UNIX) as client, short_address(path) as address:
        while True:
            client.settimeout(_until(deadline))
            try:
                client.connect(address)
                break
            except BlockingIOError:  # its queue of clients is full
                time.sleep(min(RETRY_SECONDS, _until(deadline)))
        client.sendall(request)
        answer = b""
        while not answer.endswith(b"\n"):
            client.settimeout(_until(deadline))
            part = client.recv(LONGEST_ANSWER)
            answer += part
            if not part or len(answer) > LONGEST_ANSWER:
                break
    return answer


def _until(deadline: float) -> float:
    """Return the seconds that are left. Raises: TimeoutError if there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """A name for `path` that fits a socket address however deep its folder lies. FileNotFoundError: no such folder."""
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def parse(line: bytes) -> Request:
    """A request from its line; ValueError, in words for the client, where it is none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):  # RecursionError: thousands of brackets within each other
        raise ValueError("not a JSON object on one line") from None
    if not isinstance(fields, dict) or fields.get("command") not in COMMANDS:
        raise ValueError(f'write {{"command": …}} with one of {", ".join(COMMANDS)}')
    return Request(fields["command"], str(fields.get("origin", ""))[:100])


class ControlServer:
    """The supervisor's side: never waits for a client."""

    def __init__(self, folder: RunFolder) -> None:
        """Binds the socket in place of one that a dead supervisor left; the caller holds the run's lock."""
        self._path = folder.socket
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        os.fchmod(self._listener.fileno(), 0o600)  # before bind: the file is never there with another mode
        with short_address(self._path) as address:
            self._listener.bind(address)
        self._listener.listen()
        self._clients: dict[socket.socket, bytes] = {}

    @property
    def sockets(self) -> list[socket.socket]:
        """What to wait for."""
        return [self._listener, *self._clients]

    def requests(self, ready: Sequence[object]) -> Iterator[tuple[socket.socket, Request]]:
        """What the `ready` sockets ask; `reply` to each. Wrong requests are answered here."""
        for client in [client for client in self._clients if client in ready]:
            line = self._read(client)
            if line is not None:
                try:
                    yield client, parse(line)
                except ValueError as error:
                    self.reply(client, Reply(False, str(error)))
        if self._listener in ready:
            with suppress(BlockingIOError, ConnectionAbortedError):
                client, _ = self._listener.accept()
                client.setblocking(False)
                self._clients[client] = b""
                if len(self._clients) > MOST_CLIENTS:
                    self._drop(next(iter(self._clients)))  # who has said nothing for the longest time

    def reply(self, client: socket.socket, reply: Reply) -> None:
        """Answers and hangs up; a client that does not listen gets nothing."""
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            client.send(json.dumps(asdict(reply)).encode() + b"\n")
        self._drop(client)

    def close(self) -> None:
        """Hangs up on everybody and takes the socket away."""
        for client in list(self._clients):
            self._drop(client)
        self._listener.close()
        # On a disk that cannot be written the name stays; a client that connects to it finds nobody.
        with suppress(OSError):
            self._path.unlink()

    def _read(self, client: socket.socket) -> bytes | None:
        """The client's whole line once it is there."""
        try:
            part = client.recv(LONGEST_REQUEST)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            part = b""
        text = self._clients[client] + part
        self._clients[client] = text
        if b"\n" in text:
            return text.partition(b"\n")[0]
        if not part:
            self._drop(client)
        elif len(text) >= LONGEST_REQUEST:
            self.reply(client, Reply(False, f"a request has at most {LONGEST_REQUEST} bytes"))
        return None

    def _drop(self, client: socket.socket) -> None:
        self._clients.pop(client, None)
        client.close()
