"""Whether a question of one split also stands in another: word for word, or by a run of 13 words.

Thirteen-word overlap is GPT-3's measure (Brown et al. 2020, appendix C). It is reported, not acted on: removing rows
would make the test set another one than published numbers are about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.data.rows import Row

WORDS = 13
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Overlap:
    """Ids of the questions of `checked` that also stand in `against`, and some pairs to look at."""

    checked: str
    against: str
    exact: tuple[str, ...]
    shared_run: tuple[str, ...]  # exact ones included
    pairs: tuple[tuple[str, str], ...]  # (id in checked, id in against), the first few

    def __str__(self) -> str:
        return (
            f"{self.checked} against {self.against}: {len(self.exact)} questions the same, "
            f"{len(self.shared_run)} sharing {WORDS} words in a row"
        )


def overlap(
    checked: str, rows: Sequence[Row], against: str, others: Sequence[Row], pairs: int = 5
) -> Overlap:
    """Which of `rows` overlap with `others`; case and punctuation do not count."""
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
    """Every run of 13 words."""
    return zip(*(words[start:] for start in range(WORDS)), strict=False)
