"""Find questions of one split that also occur in another.

They match word for word, or share a run of 13 words. The overlap is reported only. If rows were removed, the
test set would differ from the one of published numbers.
Source: GPT-3's measure, Brown et al. 2020, appendix C.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.data.rows import DataRow

WORDS = 13
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Overlap:
    """Ids of the questions of `checked` that also occur in `against`.

    Attributes:
        exact: ids of equal questions.
        shared_run: ids of questions that share a run of words, including the exact ones.
        pairs: the first few (id in checked, id in against).
    """

    checked: str
    against: str
    exact: tuple[str, ...]
    shared_run: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return (
            f"{self.checked} against {self.against}: {len(self.exact)} questions the same, "
            f"{len(self.shared_run)} sharing {WORDS} words in a row"
        )


def overlap(
    checked: str, rows: Sequence[DataRow], against: str, others: Sequence[DataRow], pairs: int = 5
) -> Overlap:
    """Return which of `rows` overlap with `others`.

    Case and punctuation are ignored.
    """
    whole = {tuple(_words(row.question)) for row in others}
    runs = {run: row.ex_id for row in others for run in _runs(_words(row.question))}
    exact: list[str] = []
    shared: dict[str, str] = {}
    for row in rows:
        words = _words(row.question)
        twin = next((runs[run] for run in _runs(words) if run in runs), None)
        if tuple(words) in whole:
            exact.append(row.ex_id)
            twin = twin or "(short)"
        if twin is not None:
            shared[row.ex_id] = twin
    return Overlap(checked, against, tuple(exact), tuple(shared), tuple(shared.items())[:pairs])


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _runs(words: list[str]) -> Iterator[tuple[str, ...]]:
    """Return every run of 13 words."""
    return zip(*(words[start:] for start in range(WORDS)), strict=False)
