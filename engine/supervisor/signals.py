"""The supervisor's signals, as a socket that its loop can wait for."""

from __future__ import annotations

import contextlib
import signal
import socket


def catch_signals() -> socket.socket:
    """Catch SIGTERM and ignore SIGINT and SIGHUP.

    Return a socket that is readable after SIGTERM.
    """
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def notify(*_: object) -> None:
        # A full buffer already holds unread signals, so another byte is not needed.
        with contextlib.suppress(BlockingIOError):
            writer.send(b"t")

    signal.signal(signal.SIGTERM, notify)
    return reader


def signalled(reader: socket.socket) -> bool:
    """Return True if SIGTERM has arrived since the last call; never blocks."""
    try:
        return bool(reader.recv(64))
    except BlockingIOError:
        return False
