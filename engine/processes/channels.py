"""One-way queues between two processes, made of a pipe: one sender, one receiver, end of file = the peer is gone.

`multiprocessing.Queue` cannot be used where a peer may be killed: its reader dies holding the lock that the next one
needs, and a queue cannot be given to a process that already runs. A pipe has no lock, its ends can be sent to a
living process, and the kernel closes them for the dead.
"""

from __future__ import annotations

import queue
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_END = b""  # no pickle is empty


class ChannelClosed(Exception):
    """The other end is gone, or this process was asked to end."""


class Sender(Generic[T]):
    """The writing end. `put` never waits: a feeder thread writes to the pipe."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection
        self._waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._gone = threading.Event()
        self._feeder = threading.Thread(target=self._feed, name="channel feeder", daemon=True)
        self._feeder.start()

    def put(self, item: T) -> None:
        """Queues `item`, as it is now, for the receiver. Raises ChannelClosed once the receiver is known to be gone."""
        if self._gone.is_set():
            raise ChannelClosed("the receiver is gone")
        self._waiting.put(bytes(ForkingPickler.dumps(item)))

    def close(self, timeout: float | None = 0.0) -> None:
        """Closes the channel behind what was put; waits `timeout` seconds at most (None: for ever) for that."""
        self._waiting.put(_END)
        self._feeder.join(timeout)

    def _feed(self) -> None:
        try:
            while (message := self._waiting.get()) != _END:
                self._connection.send_bytes(message)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            self._gone.set()
            self._connection.close()


class Receiver(Generic[T]):
    """The reading end. `interrupt`, where given, is a connection that ends every wait once it can be read."""

    def __init__(
        self, connection: Connection[Any, Any], interrupt: Connection[Any, Any] | None = None
    ) -> None:
        self._connection = connection
        self._interrupt = interrupt

    def get(self, timeout: float | None = None) -> T | None:
        """The next item, or None after `timeout` seconds (None: waits for ever). Raises ChannelClosed."""
        watched = [self._connection] if self._interrupt is None else [self._connection, self._interrupt]
        ready = wait(watched, timeout)
        if self._interrupt in ready:
            raise ChannelClosed("asked to end")
        if not ready:
            return None
        try:
            item: T = self._connection.recv()
        except (EOFError, OSError):  # OSError: the sender died in the middle of a message
            raise ChannelClosed("the sender is gone") from None
        return item

    def drain(self) -> list[T]:
        """Every item that is there now, without waiting. ChannelClosed where there is none and none will come."""
        items: list[T] = []
        try:
            while (item := self.get(0.0)) is not None:
                items.append(item)
        except ChannelClosed:
            if not items:
                raise
        return items

    def close(self) -> None:
        """Lets go of the pipe; the sender sees a closed channel."""
        self._connection.close()
