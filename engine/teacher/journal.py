"""The journal of paid answers, so that none is paid for twice.

An answer is appended as soon as it arrives, one JSON line each, with a checksum of its other fields. A line
is written at once, which survives the process. It is synced in batches, which survives the machine. A partial
last line is removed when the journal is opened. A damaged line stays in the file and is counted, and its
question is sent again. A file lock keeps a second run from sending the same questions.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from engine.context import StageFailed
from store.private import FILE_MODE, make_folder


@dataclass(frozen=True, slots=True)
class TeacherAnswer:
    """A teacher's unchanged answer to one question.

    `finish` is 'stop', or 'length' if the teacher ran out of tokens. Two other kinds of line are not answers.
    'lost' is a request that may have cost money; its tokens are an estimate. 'refused' is a question that the
    teacher will not answer; `text` is the reason.
    """

    ex_id: str
    sample: int
    text: str
    reasoning: str
    finish: str
    prompt_tokens: int
    completion_tokens: int


_TYPES = {field.name: {"str": str, "int": int}[str(field.type)] for field in fields(TeacherAnswer)}
# Lines of older versions have no checksum.
_CHECKSUM = "crc32"


class JournalTaken(StageFailed):
    """Another process has the journal open."""


class AnswerJournal:
    """The answers of one teacher to the questions of one data set.

    Use it as a context manager.
    Raises: JournalTaken if another process has it open.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.path = folder / "answers.jsonl"
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, FILE_MODE)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise JournalTaken(
                "traces: another run is asking the same questions; wait for it, or stop it"
            ) from None
        self.answers: dict[tuple[str, int], TeacherAnswer] = {}
        self.refused: dict[tuple[str, int], TeacherAnswer] = {}
        self.lost: list[TeacherAnswer] = []
        # Numbers of the unusable lines, from 1.
        self.damaged: list[int] = []
        for answer in self._read():
            self._keep(answer)
        self._unsynced = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sync()
        os.close(self._handle)

    def append(self, answer: TeacherAnswer) -> None:
        """Write and keep `answer`.

        Raises: ValueError if the question already has an answer; StageFailed if the disk is full.
        """
        if answer.finish != "lost" and (answer.ex_id, answer.sample) in self.answers:
            raise ValueError(f"question {answer.ex_id} sample {answer.sample} was answered before")
        line = _line(answer)
        written = os.write(self._handle, line)
        # On a full disk, a partial line would damage the next one too.
        if written < len(line):
            os.ftruncate(self._handle, os.fstat(self._handle).st_size - written)
            raise StageFailed(f"traces: no room for an answer in {self.path}; free some disk and run again")
        self._keep(answer)
        self._unsynced = True

    def sync(self) -> None:
        """Return when everything appended is on the disk."""
        if self._unsynced:
            self._unsynced = False
            os.fsync(self._handle)

    def tokens(self) -> tuple[int, int]:
        """Return prompt and completion tokens so far.

        They include lost and refused requests.
        """
        paid = [*self.answers.values(), *self.refused.values(), *self.lost]
        return sum(answer.prompt_tokens for answer in paid), sum(answer.completion_tokens for answer in paid)

    def _keep(self, answer: TeacherAnswer) -> None:
        if answer.finish == "lost":
            self.lost.append(answer)
        elif answer.finish == "refused":
            self.refused[answer.ex_id, answer.sample] = answer
        else:
            self.answers.setdefault((answer.ex_id, answer.sample), answer)

    def _read(self) -> Iterator[TeacherAnswer]:
        whole = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                answer = _answer(line)
                if answer is None:
                    self.damaged.append(number)
                else:
                    yield answer
        os.ftruncate(self._handle, whole)


def _line(answer: TeacherAnswer) -> bytes:
    """Return `answer` as a line.

    Half surrogate pairs, which UTF-8 cannot hold, become `?`.
    """
    values = {name: _whole(value) for name, value in asdict(answer).items()}
    return json.dumps(values | {_CHECKSUM: _checksum(values)}, ensure_ascii=False).encode() + b"\n"


def _answer(line: bytes) -> TeacherAnswer | None:
    """Return the answer in a line; None if the line is damaged."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    checksum = values.pop(_CHECKSUM, None)
    if {name: type(value) for name, value in values.items()} != _TYPES:
        return None
    return TeacherAnswer(**values) if checksum is None or checksum == _checksum(values) else None


def _checksum(values: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _whole(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
