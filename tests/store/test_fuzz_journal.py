"""The journal's reader under any damage: what is before it comes back, nothing that was not written ever does."""

from __future__ import annotations

import json
import math
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from store.journal import JournalWriter, read, segment_path
from store.records import Event, Example, Record, RunRow, Scalar, from_groups, to_groups
from tests.support.fuzzing import NESTED, damage, fuzz

WORDS = st.text(max_size=20)
FLOATS = st.floats(allow_nan=False)
STEPS = st.integers(-1, 2**40)
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(Scalar, WORDS, STEPS, FLOATS, FLOATS),
    st.builds(
        Event, WORDS, WORDS, WORDS, WORDS, STEPS, st.dictionaries(WORDS, WORDS | STEPS, max_size=3), FLOATS
    ),
    st.builds(RunRow, WORDS, WORDS, STEPS, st.dictionaries(WORDS, WORDS, max_size=3), FLOATS),
    st.builds(
        *(Example, WORDS, STEPS, WORDS, WORDS, STEPS, st.booleans(), FLOATS, WORDS, WORDS, WORDS, STEPS),
        gold=WORDS,
        ts=FLOATS,
    ),
)
# The batches that the damaged journals hold: small, so that a damage hits lines as often as what is between them.
BATCHES: list[list[Record]] = [
    [Scalar(f"sft/train/loss{batch}", step, step / 7, 1.0) for step in range(batch % 3 + 1)]
    + [Event("log", f"batch {batch} — ü\n", payload={"level": "info"}, ts=2.0)]
    for batch in range(12)
]


def lines_of(batches: Sequence[list[Record]]) -> list[bytes]:
    """The lines that a writer makes of `batches`."""
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        with JournalWriter(folder) as writer:
            for batch in batches:
                writer.append(batch)
        return segment_path(folder, 1).read_bytes().splitlines(keepends=True)


LINES = lines_of(BATCHES)
CONTENT = b"".join(LINES)
WRITTEN: list[Record] = [record for batch in BATCHES for record in batch]


def from_bytes(content: bytes) -> list[Record]:
    """What the reader makes of a journal of one segment."""
    with tempfile.TemporaryDirectory() as folder:
        segment_path(Path(folder), 1).write_bytes(content)
        return read(Path(folder))[0]


def is_subsequence(part: Sequence[Any], whole: Sequence[Any]) -> bool:
    rest = iter(whole)
    return all(any(one == other for other in rest) for one in part)


def whole_before(place: int) -> list[Record]:
    """The records of the lines that end before byte `place`."""
    found: list[Record] = []
    for line, batch in zip(LINES, BATCHES, strict=True):
        place -= len(line)
        if place < 0:
            return found
        found += batch
    return found


@fuzz(400)
@given(damage(len(CONTENT)))
def test_what_is_before_the_damage_comes_back_and_nothing_else_than_was_written(wound: Any) -> None:
    content, place = wound(CONTENT)
    found, before = from_bytes(content), whole_before(place)
    assert found[: len(before)] == before
    if len(content) <= len(CONTENT):
        assert is_subsequence(found, WRITTEN)
    assert all(record in WRITTEN for record in found)


@fuzz(60)
@given(st.lists(damage(len(CONTENT) // 2), min_size=2, max_size=4))
def test_also_under_several_damages(wounds: list[Any]) -> None:
    content, first = CONTENT, len(CONTENT)
    for wound in wounds:
        if content:
            content, place = wound(content.ljust(len(CONTENT) // 2, b"\0"))
            first = min(first, place)
    found, before = from_bytes(content), whole_before(first)
    assert found[: len(before)] == before
    assert all(record in WRITTEN for record in found)


@fuzz(100)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_as_nothing(content: bytes) -> None:
    assert from_bytes(content) == []


@fuzz(100)
@given(damage(len(CONTENT)))
def test_a_writer_goes_on_behind_any_damage(wound: Any) -> None:
    content, _ = wound(CONTENT)
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        segment_path(folder, 1).write_bytes(content)
        before = from_bytes(content)
        more: list[Record] = [Event("log", "goes on", ts=3.0)]
        with JournalWriter(folder) as writer:
            writer.append(more)
        assert read(folder)[0] == before + more


@fuzz(200)
@given(st.lists(RECORDS, max_size=8))
def test_records_come_back_as_they_were(records: list[Record]) -> None:
    assert from_bytes(b"".join(lines_of([records]))) == records
    assert from_groups(to_groups(records)) == records


@fuzz(30)
@given(st.floats())
def test_a_float_comes_back_bit_for_bit(value: float) -> None:
    (record,) = from_bytes(*lines_of([[Scalar("m", 1, value, 0.0)]]))
    assert isinstance(record, Scalar)
    assert record.value == value or math.isnan(value)
    assert math.copysign(1.0, record.value) == math.copysign(1.0, value) or math.isnan(value)


@fuzz(100)
@given(st.integers(1, 6), NESTED)
def test_a_whole_line_with_another_content_is_refused_or_left_out(version: int, batch: Any) -> None:
    """A program of another version may have written it, with a right checksum."""
    body = json.dumps([version, batch]).encode()
    line = b"%08x %b\n" % (zlib.crc32(body), body)
    try:
        found = from_bytes(LINES[0] + line)
    except RuntimeError as error:
        assert type(error).__name__ == "JournalVersion"
        return
    assert found == BATCHES[0]
