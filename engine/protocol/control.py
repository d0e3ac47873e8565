"""Commands to a live run over the Unix socket in its folder.

    {"command": "pause", "origin": "console"}
    {"ok": true, "message": "pauses after the current step", "status": {…}}

Each message is a JSON object on one line. A connection carries one request and one reply. Only the run's
owner may connect (mode 0600). The socket is opened through the descriptor of its folder, because its path may
be longer than the 107 bytes of a socket address.
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
# In bytes.
LONGEST_REQUEST = 4096
# Clients that have not sent their request. Each uses a descriptor, and a process usually has 1,024 of them.
MOST_CLIENTS = 64
# In bytes.
LONGEST_ANSWER = 1 << 20
PATIENCE_SECONDS = 10.0
RETRY_SECONDS = 0.05


class NotLive(ConnectionError):
    """Raised if no supervisor replies for the run."""


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request. `origin` names the client in the journal.

    It is "cli", "console", "ctrl-c", or any other client's own name.
    """

    command: Command
    origin: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The supervisor's reply.

    `status` holds state, reason, trouble and processes ({role, pid, alive}).
    """

    ok: bool
    message: str
    status: dict[str, Any] = field(default_factory=dict)


def sender(request: Request) -> str:
    """Describe the client of `request` for a reason: "killed by …".

    Examples: "`mathrl-tui kill`", "the user in the console".
    """
    known = {
        "cli": f"`mathrl-tui {request.command}`",
        "console": "the user in the console",
        "ctrl-c": "the user with Ctrl-C",
        "": "an unnamed client",
    }
    return known.get(request.origin, request.origin)


def ask(folder: RunFolder, command: Command, origin: str = "cli", timeout: float | None = None) -> Reply:
    """Send `command` to the run's supervisor and return its reply.

    Args:
        timeout: longest wait in seconds; None for PATIENCE_SECONDS.
    Raises: NotLive if no supervisor replies in time.
    """
    patience = PATIENCE_SECONDS if timeout is None else timeout
    request = json.dumps({"command": command, "origin": origin}).encode() + b"\n"
    try:
        line = _exchanged(folder.socket, request, time.monotonic() + patience)
    except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
        raise NotLive(
            f"run {folder.run_id}: no supervisor is running; `mathrl-tui status {folder.run_id}` shows how it ended, "
            f"`mathrl-tui run --resume {folder.run_id}` continues it"
        ) from None
    except TimeoutError:
        raise NotLive(f"run {folder.run_id}: its supervisor has not answered for {patience:g} s") from None
    if not line.endswith(b"\n"):
        raise NotLive(f"run {folder.run_id}: its supervisor ended without an answer")
    try:
        return Reply(**json.loads(line))
    except (TypeError, ValueError, RecursionError):
        raise NotLive(f"run {folder.run_id}: the process at {folder.socket} is not a supervisor") from None


def _exchanged(path: Path, request: bytes, deadline: float) -> bytes:
    """Send `request` and return the reply line, possibly incomplete.

    Raises: OSError, TimeoutError.
    """
    with socket.socket(socket.AF_UNIX) as client, short_address(path) as address:
        while True:
            client.settimeout(_until(deadline))
            try:
                client.connect(address)
                break
            except BlockingIOError:
                # The supervisor's queue of clients is full.
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
    """Return the seconds that are left.

    Raises: TimeoutError if the time is over.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Yield a short name for the socket file `path`.

    It fits into a socket address even if the file's folder is deeply nested. It is valid inside the `with`
    block.
    Raises: FileNotFoundError if the folder does not exist.
    """
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def parse(line: bytes) -> Request:
    """Parse the line of a request.

    Raises: ValueError, with a message for the client, if the line is not a valid request.
    """
    try:
        fields = json.loads(line)
    # RecursionError: thousands of nested brackets.
    except (ValueError, RecursionError):
        raise ValueError("not a JSON object on one line") from None
    if not isinstance(fields, dict) or fields.get("command") not in COMMANDS:
        raise ValueError(f'write {{"command": …}} with one of {", ".join(COMMANDS)}')
    return Request(fields["command"], str(fields.get("origin", ""))[:100])


class ControlServer:
    """The supervisor's side of the socket. It never blocks on a client."""

    def __init__(self, folder: RunFolder) -> None:
        """Bind the socket in place of one that a dead supervisor left.

        The caller holds the run's lock.
        """
        self._path = folder.socket
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        # Set the mode before `bind`, so that the file never exists with another mode.
        os.fchmod(self._listener.fileno(), 0o600)
        with short_address(self._path) as address:
            self._listener.bind(address)
        self._listener.listen()
        self._clients: dict[socket.socket, bytes] = {}

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets to wait for; pass those that are readable to `requests`."""
        return [self._listener, *self._clients]

    def requests(self, ready: Sequence[object]) -> Iterator[tuple[socket.socket, Request]]:
        """Yield the requests of the `ready` sockets; call `reply` for each.

        Reject invalid ones here.
        """
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
                # Drop the oldest client that has not sent its request.
                if len(self._clients) > MOST_CLIENTS:
                    self._drop(next(iter(self._clients)))

    def reply(self, client: socket.socket, reply: Reply) -> None:
        """Send the reply and close the connection.

        A client that does not read gets nothing.
        """
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            client.send(json.dumps(asdict(reply)).encode() + b"\n")
        self._drop(client)

    def close(self) -> None:
        """Close all connections and remove the socket."""
        for client in list(self._clients):
            self._drop(client)
        self._listener.close()
        # On a read-only disk the file remains; a client that connects to it is refused.
        with suppress(OSError):
            self._path.unlink()

    def _read(self, client: socket.socket) -> bytes | None:
        """Return the client's line once it is complete, else None."""
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
