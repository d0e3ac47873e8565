"""Any bytes as rows, as scores and as a teacher's answers: what can be used, or one line that names file and place."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.data.files import DataError
from engine.data.rows import read_split
from engine.teacher.journal import AnswerJournal, TeacherAnswer
from store.score_files import InputError as ScoreError
from store.score_files import read_scores
from tests.support.fuzzing import NESTED, damage, fuzz

ROW = st.fixed_dictionaries(
    {},
    optional={
        name: NESTED | st.sampled_from(["#### 4", "4", 4, True])
        for name in ("question", "answer", "problem", "solution", "id", "correct", "score", "task")
    },
)
LINES = st.lists(st.one_of(ROW, NESTED).map(lambda value: json.dumps(value)), max_size=4).map("\n".join)
CONTENT = st.one_of(st.binary(max_size=200), LINES.map(str.encode))
ANSWERS = [
    TeacherAnswer(f"train-{number}", 0, f"#### {number}\n", "thought", "stop", 9, 4) for number in range(8)
]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@fuzz(150)
@given(CONTENT, st.sampled_from(["rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "rows.arrow"]))
def test_rows(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows = read_split([written(Path(folder) / name, content)], "train")
        except DataError as error:
            assert name in str(error)
            return
        assert all(row.question and row.answer for row in rows)


@fuzz(150)
@given(CONTENT)
def test_scores(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            read_scores(written(Path(folder) / "scores.jsonl", content))
        except ScoreError as error:
            assert "scores.jsonl" in str(error)


def journal_of(answers: list[TeacherAnswer]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        with AnswerJournal(Path(folder)) as journal:
            for answer in answers:
                journal.append(answer)
        return journal.path.read_bytes()


PAID = journal_of(ANSWERS)


@fuzz(200)
@given(damage(len(PAID)))
def test_paid_answers_before_a_damage_are_kept_and_nothing_is_made_up(wound: Any) -> None:
    content, place = wound(PAID)
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / "answers.jsonl", content)
        with AnswerJournal(Path(folder)) as journal:
            kept = list(journal.answers.values())
        whole = PAID[:place].count(b"\n")
        assert kept[:whole] == ANSWERS[:whole]
        assert all(answer in ANSWERS for answer in kept)
        # Only what follows the last newline is cut off: a torn line. A damaged one stays for who wants to mend it.
        assert path.read_bytes() == content[: content.rfind(b"\n") + 1]
        assert len(kept) + len(journal.damaged) >= len(set(content.split(b"\n")[:-1]))


def test_answers_of_an_older_version_have_no_checksum_and_are_read(tmp_path: Path) -> None:
    """And what cannot be used is named by its line."""
    lines = [json.dumps(asdict(answer)) for answer in ANSWERS]
    lines[2] = lines[2].replace('"prompt_tokens": 9', '"prompt_tokens": "9"')
    (tmp_path / "answers.jsonl").write_text("".join(f"{line}\n" for line in lines))
    with AnswerJournal(tmp_path) as journal:
        assert list(journal.answers.values()) == [*ANSWERS[:2], *ANSWERS[3:]]
        assert journal.damaged == [3]
