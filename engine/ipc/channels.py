"""One-way queues between two processes, over a pipe.

Each channel has one sender and one receiver. End of file means that the peer has exited.

`multiprocessing.Queue` does not survive a killed peer: a killed reader keeps the lock that the next reader
needs. A queue also cannot be sent to a process that already runs. A pipe has no lock, its ends can be sent to
a running process, and the kernel closes them when a process exits.
"""

from __future__ import annotations

import queue
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# Marks the end of the queue. A pickle is never empty.
_END = b""


class ChannelClosed(Exception):
    """The peer closed its end of a channel, or this process must stop."""


class Sender(Generic[T]):
    """The writing end of a channel.

    `put` never blocks: a feeder thread writes to the pipe.
    """

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection
        self._waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._gone = threading.Event()
        self._feeder = threading.Thread(target=self._feed, name="channel feeder", daemon=True)
        self._feeder.start()

    def put(self, item: T) -> None:
        """Pickle `item` now and queue it for the receiver.

        Raises: ChannelClosed after an earlier write found the receiver closed.
        """
        if self._gone.is_set():
            raise ChannelClosed("the receiver has closed the channel")
        self._waiting.put(bytes(ForkingPickler.dumps(item)))

    def close(self, timeout: float | None = 0.0) -> None:
        """Close the channel after the queued items.

        Wait at most `timeout` seconds (None: no limit).
        """
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
    """The reading end of a channel.

    Args:
        interrupt: an optional connection. When it becomes readable, every wait ends with ChannelClosed.
    """

    def __init__(
        self, connection: Connection[Any, Any], interrupt: Connection[Any, Any] | None = None
    ) -> None:
        self._connection = connection
        self._interrupt = interrupt

    def get(self, timeout: float | None = None) -> T | None:
        """Return the next item, or None after `timeout` seconds (None: no limit).

        Raises: ChannelClosed if the sender has closed its end, or `interrupt` is readable.
        """
        watched = [self._connection] if self._interrupt is None else [self._connection, self._interrupt]
        ready = wait(watched, timeout)
        if self._interrupt in ready:
            raise ChannelClosed("this process was asked to stop")
        if not ready:
            return None
        try:
            item: T = self._connection.recv()
        # OSError: the sender was killed in the middle of a message.
        except (EOFError, OSError):
            raise ChannelClosed("the sender has closed the channel") from None
        return item

    def close(self) -> None:
        """Close the pipe; the sender then sees a closed channel."""
        self._connection.close()
