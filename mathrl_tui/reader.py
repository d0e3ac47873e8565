"""The thread that reads the store for the console.

So a slow disk does not block keys or painting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import HomeData

ReadResult = TypeVar("ReadResult")


class Unreadable(RuntimeError):
    """The store could not answer now; the message is one line."""


class Reader:
    """Runs questions on a `HomeData`, on one thread.

    The first question creates it, with its slow imports.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._home_data: HomeData | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-reader")

    @property
    def problem(self) -> str:
        """Return why the store could not ingest new records, in one line.

        Returns: "" if it could.
        """
        return self._home_data.problem if self._home_data is not None else ""

    def take_repairs(self) -> list[str]:
        """Return the lines about repairs since the last call."""
        return self._home_data.store.take_repairs() if self._home_data is not None else []

    async def ask(self, question: Callable[[HomeData], ReadResult]) -> ReadResult:
        """Return the answer of `question`, which runs on the reading thread.

        Raises: Unreadable if the store cannot answer now.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)

    def close(self) -> None:
        """Stop the thread, without waiting for a question in progress."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answer(self, question: Callable[[HomeData], ReadResult]) -> ReadResult:
        # Imports DuckDB and NumPy: 0.2 s, after the first paint.
        from mathrl_tui.core import home_data

        if self._home_data is None:
            self._home_data = home_data.HomeData(self._home)
        try:
            return question(self._home_data)
        except home_data.READING_ERRORS as error:
            raise Unreadable(str(error).splitlines()[0]) from error
