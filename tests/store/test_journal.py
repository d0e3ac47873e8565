"""The journal: whole batches or nothing, whoever dies and however full the disk is."""

from __future__ import annotations

import math
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from store import batches, journal
from store.batches import JournalVersion
from store.journal import START, JournalBusy, JournalWriter, Position, read, segment_path
from store.live import LiveTail, end_of
from store.records import Event, Example, Record, RunRow, Scalar, from_groups, to_groups
from store.tail import read_tail

AWKWARD = 'a | b\r\n"c"\x00 , \\boxed{7} 數 😀 \u2028'


def records(count: int, start: int = 0) -> list[Record]:
    return [Scalar("sft/train/loss", step, step / 7, ts=100.0 + step) for step in range(start, start + count)]


def one_of_each() -> list[Record]:
    return [
        RunRow("name", "demo", 3, {"plan": [{"stage": "sft", "arm": "sft"}]}, ts=1.5),
        Scalar("sft/train/loss", 1, math.inf, ts=2.0),
        Scalar("sft/train/loss", 2, 0.1, ts=2.5),
        Event("state", AWKWARD, payload={"state": "running", "reason": AWKWARD}, ts=3.0),
        Scalar("sft/train/loss", 3, -0.0, ts=3.5),
        Example("sft", 5, "gsm8k", "7", 0, True, 1.0, "correct", AWKWARD, AWKWARD, 12, "7", "7", ts=4.0),
    ]


def test_records_come_back_as_they_were_and_in_order(tmp_path: Path) -> None:
    with JournalWriter(tmp_path) as writer:
        end = writer.append(one_of_each())
    assert read(tmp_path) == (one_of_each(), end)
    assert from_groups(to_groups(one_of_each())) == one_of_each()


def test_floats_come_back_bit_for_bit(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2**64, size=500, dtype=np.uint64)
    values = [0.1 + 0.2, 5e-324, -math.inf, math.nan, *bits.view(np.float64).tolist()]
    with JournalWriter(tmp_path) as writer:
        writer.append([Scalar("m", step, value, ts=1.0) for step, value in enumerate(values)])
    found = [record.value for record in read(tmp_path)[0] if isinstance(record, Scalar)]
    assert np.array(found).tobytes() == np.array(values).tobytes()


def test_a_journal_of_version_1_is_read(tmp_path: Path) -> None:
    body = b'[1,[["scalar",["a","b"],[7,8],[0.5,NaN],[1.5,2.5]],["event",["log"],["hm"],[""],[""],[-1],[{}],[3.5]]]]'
    segment_path(tmp_path, 1).write_bytes(b"%08x %b\n" % (zlib.crc32(body), body))
    scalar, other, event = read(tmp_path)[0]
    assert (scalar, event) == (Scalar("a", 7, 0.5, ts=1.5), Event("log", "hm", ts=3.5))
    assert isinstance(other, Scalar)
    assert math.isnan(other.value)


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    with JournalWriter(tmp_path) as writer:
        writer.append([Event("log", "broken \ud83d end")])
    assert [event.message for event in read(tmp_path)[0] if isinstance(event, Event)] == ["broken ? end"]


def test_numpy_scalars_are_written_as_their_numbers_and_other_things_refused(tmp_path: Path) -> None:
    with JournalWriter(tmp_path) as writer:
        writer.append([Scalar("m", np.int64(3), np.float32(0.5), ts=1.0)])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a record has the value"):
            writer.append([Event("log", payload={"path": tmp_path})])
    assert read(tmp_path)[0] == [Scalar("m", 3, 0.5, ts=1.0)]


@pytest.mark.parametrize("kept", [0, 1, 8, 9, 40, -2, -1])
def test_a_torn_tail_is_never_read_and_is_cut_at_the_next_open(tmp_path: Path, kept: int) -> None:
    with JournalWriter(tmp_path) as writer:
        whole = writer.append(records(3))
        writer.append(records(3, start=3))
    path = segment_path(tmp_path, 1)
    content = path.read_bytes()
    second = content[whole.offset :]
    path.write_bytes(content[: whole.offset] + second[:kept])

    assert read(tmp_path) == (records(3), whole)
    with JournalWriter(tmp_path) as writer:
        assert writer.position == whole
        assert path.stat().st_size == whole.offset
        writer.append(records(2, start=50))
    assert read(tmp_path)[0] == records(3) + records(2, start=50)


def test_a_tail_of_zeros_as_after_a_power_cut_is_cut(tmp_path: Path) -> None:
    with JournalWriter(tmp_path) as writer:
        whole = writer.append(records(3))
    path = segment_path(tmp_path, 1)
    path.write_bytes(path.read_bytes() + bytes(4096))
    with JournalWriter(tmp_path) as writer:
        assert writer.position == whole
    assert read(tmp_path) == (records(3), whole)


def test_a_damaged_line_costs_itself_alone(tmp_path: Path) -> None:
    with JournalWriter(tmp_path) as writer:
        first = writer.append(records(3))
        writer.append(records(3, start=3))
        last = writer.append(records(3, start=6))
    path = segment_path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[first.offset + 30] ^= 1
    path.write_bytes(content)
    assert read(tmp_path) == (records(3) + records(3, start=6), last)


@pytest.mark.parametrize("first", [0, 1, 3])
@pytest.mark.parametrize("torn", [0, 7])
def test_repeated_blocks_double_nothing(tmp_path: Path, first: int, torn: int) -> None:
    ends = [0]
    with JournalWriter(tmp_path) as writer:
        ends += [writer.append(records(3, start=3 * number)).offset for number in range(5)]
    path = segment_path(tmp_path, START.segment)
    path.write_bytes(path.read_bytes() + path.read_bytes()[ends[first] + torn :])
    with JournalWriter(tmp_path) as writer:
        writer.append(records(3, start=15))
    assert read(tmp_path)[0] == records(18)
    # Ingestion reads on from a place between a line and its copy.
    assert read(tmp_path, Position(START.segment, ends[-1]))[0] == records(3, start=15)
    assert read_tail(tmp_path).records == records(18)


def test_a_line_that_moved_is_kept_and_a_copy_replaces_a_damaged_line(tmp_path: Path) -> None:
    with JournalWriter(tmp_path) as writer:
        ends = [writer.append(records(3, start=3 * number)).offset for number in range(3)]
    path = segment_path(tmp_path, START.segment)
    content = path.read_bytes()
    path.write_bytes(content[: ends[0]] + content[ends[0] + 40 :])
    assert read(tmp_path)[0] == records(3) + records(3, start=6)
    path.write_bytes(content[:20] + b"?" + content[21:] + content[: ends[0]])
    assert read(tmp_path)[0] == records(6, start=3) + records(3)


def test_segments_rotate_and_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 500)
    with JournalWriter(tmp_path) as writer:
        for start in range(0, 100, 10):
            writer.append(records(10, start))
    with JournalWriter(tmp_path) as writer:
        end = writer.append(records(10, start=100))
    assert end.segment > 3
    assert all(path.stat().st_size <= 500 for path in tmp_path.iterdir())
    assert read(tmp_path) == (records(110), end)
    middle = Position(2, 0)
    first_of_second = read(tmp_path, middle)[0][0]
    assert read(tmp_path, START, limit=1)[0] + read(tmp_path, middle)[0] == records(110)
    assert isinstance(first_of_second, Scalar)
    assert first_of_second.step % 10 == 0


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    with JournalWriter(tmp_path), pytest.raises(JournalBusy, match="another supervisor writes"):
        JournalWriter(tmp_path)
    JournalWriter(tmp_path).close()


def test_a_newer_journal_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "VERSION", 99)
    with JournalWriter(tmp_path) as writer:
        writer.append(records(1))
    monkeypatch.undo()
    with pytest.raises(JournalVersion, match="99"):
        read(tmp_path)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from store.journal import JournalWriter
from store.records import Scalar
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = JournalWriter(Path(sys.argv[1]))
good = writer.append([Scalar("m", step, 0.5, ts=1.0) for step in range(10)])
resource.setrlimit(resource.RLIMIT_FSIZE, (good.offset + 100, resource.RLIM_INFINITY))
held = [Scalar("m", step, 0.5, ts=1.0) for step in range(10, 20)]
try:
    writer.append(held)
except OSError:
    print("refused", writer.position == good, Path(sys.argv[1], "1.j").stat().st_size == good.offset)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.append(held)
"""


def test_a_write_that_the_disk_refuses_leaves_nothing_behind_and_can_be_tried_again(tmp_path: Path) -> None:
    """The limit cuts the write in its middle, as a full disk does."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["refused", "True", "True"]
    assert read(tmp_path)[0] == [Scalar("m", step, 0.5, ts=1.0) for step in range(20)]


DYING_WRITER = """
import os, signal, sys
from pathlib import Path
from store.journal import JournalWriter
from store.records import Scalar
writer = JournalWriter(Path(sys.argv[1]))
for step in range(5):
    writer.append([Scalar("m", step, 0.5, ts=1.0)])
    print(step, flush=True)
os.write(writer._file, b"deadbeef [1,[[")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_tail_follows_another_process_from_its_end_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    early = LiveTail(folder)
    assert early.poll() == []
    with JournalWriter(folder) as writer:
        writer.append(records(3))
        late = LiveTail(folder)
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        assert early.poll() == records(3)
        assert late.poll() == []
        assert early.poll() == []
    killed = subprocess.run([sys.executable, "-c", DYING_WRITER, folder], capture_output=True, check=False)
    assert killed.returncode == -9
    assert late.poll() == [Scalar("m", step, 0.5, ts=1.0) for step in range(5)]
    assert late.poll() == []
    assert late.position == end_of(folder)
    with JournalWriter(folder) as writer:
        writer.append(records(1, start=9))
    assert late.poll() == records(1, start=9)
    assert early.poll()[-1] == records(1, start=9)[0]


def test_a_tail_goes_over_to_the_next_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 300)
    tail = LiveTail(tmp_path)
    seen: list[Record] = []
    with JournalWriter(tmp_path) as writer:
        for start in range(0, 60, 5):
            writer.append(records(5, start))
            seen += tail.poll()
    assert writer.position.segment > 2
    assert seen == records(60)
