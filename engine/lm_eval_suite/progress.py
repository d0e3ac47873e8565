"""Progress within a suite task: finished documents, about once a second."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

REPORT_SECONDS = 1.0

# Leaf task and the document's number in it.
Document = tuple[str | None, int | None]


class DocumentCounter:
    """Counts documents; one is done when all of its requests are answered.

    Calls of `report(done, total)` are throttled.
    """

    def __init__(
        self, report: Callable[[int, int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report = report
        self._clock = clock
        self._open: Counter[Document] = Counter()
        self._known: set[Document] = set()
        self._reported = -1
        self._due = 0.0

    def expect(self, documents: Iterable[Document]) -> None:
        """Add the requests that are to be answered, one entry for each."""
        self._open.update(documents)
        self._known.update(self._open)
        self.report()

    def answered(self, document: Document) -> None:
        """Count one answered request of `document`."""
        self._open[document] -= 1
        if not self._open[document]:
            del self._open[document]

    def report(self) -> None:
        """Report the task's progress if it changed and a report is due."""
        done = len(self._known) - len(self._open)
        if done != self._reported and self._clock() >= self._due:
            self._reported, self._due = done, self._clock() + REPORT_SECONDS
            self._report(done, len(self._known))


def documents_of(requests: Iterable[object]) -> Iterator[Document]:
    """Yield the document of each of lm-eval's requests."""
    for request in requests:
        yield request.task_name, request.doc_id  # type: ignore[attr-defined]  # lm-eval has no types
