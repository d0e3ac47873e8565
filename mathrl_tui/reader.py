"""The one thread that reads the store for the console, so that a slow disk never holds up keys or painting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mathrl_tui.core.feed import Feed

Answer = TypeVar("Answer")


class Unreadable(RuntimeError):
    """The store could not answer now; the message is one line."""


class Reader:
    """Asks questions of a `Feed`, which is made, with its heavy imports, by the first of them."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._feed: Feed | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-reader")

    @property
    def problem(self) -> str:
        """Why the store could not take in what is new, in one line; empty when all is well."""
        return self._feed.problem if self._feed is not None else ""

    def take_told(self) -> list[str]:
        """Return the lines about what the reading has repaired since the last call."""
        return self._feed.store.take_told() if self._feed is not None else []

    async def ask(self, question: Callable[[Feed], Answer]) -> Answer:
        """`question`'s answer, found on the reading thread. Raises Unreadable."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)

    def close(self) -> None:
        """Lets the thread go; a question that is being answered is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answer(self, question: Callable[[Feed], Answer]) -> Answer:
        from mathrl_tui.core import feed  # imports DuckDB and NumPy: 0.2 s, after the first paint

        if self._feed is None:
            self._feed = feed.Feed(self._home)
        try:
            return question(self._feed)
        except feed.READING_ERRORS as error:
            raise Unreadable(str(error).splitlines()[0]) from error
