"""Progress within a suite task: how many of its documents are answered, reported about once a second."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

REPORT_SECONDS = 1.0

Document = tuple[str | None, int | None]  # leaf task and the document's number in it


class Documents:
    """Counts documents. One is done when all of its requests are answered; `report(done, total)` is throttled."""

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
        """One request of `document` is answered."""
        self._open[document] -= 1
        if not self._open[document]:
            del self._open[document]

    def report(self) -> None:
        """Report how far the task has come, if it has moved and the last report is old enough."""
        done = len(self._known) - len(self._open)
        if done != self._reported and self._clock() >= self._due:
            self._reported, self._due = done, self._clock() + REPORT_SECONDS
            self._report(done, len(self._known))


def documents_of(requests: Iterable[object]) -> Iterator[Document]:
    """The document that each of lm-eval's requests is about."""
    for request in requests:
        yield request.task_name, request.doc_id  # type: ignore[attr-defined]  # lm-eval has no types
